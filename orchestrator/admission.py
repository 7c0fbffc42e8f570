"""Who may run, and who is next: the slots that are taken, and the queue for them. Pure decisions.

A root starts when it fits all limits at once: that of all runs, that of its agent, and that of
its key. Of those that fit, the next one is decided by, in this order:

- its priority;
- how many runs of its owner are running: the owner with fewer goes first, and so each has its
  share of the slots, whatever the length of its runs;
- its turn: owners who are equal so far take turns. A turn is fixed when the run enters the queue,
  one after the last turn of its owner that waits, and never before the turn that is on. So who
  comes late does not wait behind the whole queue of another, nor has saved up turns;
- its age.

All of this is known again after a restart: a run's turn is stored with it.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.model import RunId

# Whose key, and which.
Key = tuple[str, str]
_Lane = tuple[int, str, str]

_AGENT, _OWNER, _KEY = "agent", "owner", "key"


class Place(NamedTuple):
    """What decides when a root starts. Fixed from the moment it may.

    Attributes:
        agent_limit: how many of its agent may run at once; None for no limit.
        key: None if it has none.
        exclusive: it starts only while no other run that has its key is running.
        number: smaller for older runs.
        turn: see above.
        since: when it began to wait, on Trio's clock.
    """

    run_id: RunId
    agent: str
    agent_limit: int | None
    owner: str
    priority: int
    key: Key | None
    exclusive: bool
    number: int
    turn: int
    since: float

    @property
    def lane(self) -> _Lane:
        """Runs of one lane are alike to everything but their keys: the first of those whose key
        is free is the only one of them that can be next."""
        return self.priority, self.owner, self.agent


class Admission:
    """The slots and the queue. Nothing here is a checkpoint, or has an effect elsewhere.

    Invariant, kept by whoever owns it: between two of its steps nothing waits that fits.
    """

    def __init__(self, max_running: int | None = None) -> None:
        self._max_running = max_running
        self._running: dict[RunId, Place] = {}
        # How many that run are of an agent, of an owner, or have a key.
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._waiting: dict[RunId, Place] = {}
        self._lanes: dict[_Lane, dict[RunId, Place]] = {}
        # By priority: the turn that is on.
        self._turns: dict[int, int] = {}

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many runs wait for one."""
        return len(self._waiting)

    @property
    def oldest(self) -> float | None:
        """Since when the one that waits longest does, on Trio's clock; None if nothing waits."""
        heads = (next(iter(lane.values())) for lane in self._lanes.values())
        return min((place.since for place in heads), default=None)

    def is_waiting(self, run_id: RunId) -> bool:
        """Return whether that run waits for a slot."""
        return run_id in self._waiting

    def turn(self, owner: str, priority: int) -> int:
        """Return the turn of a run that enters the queue now."""
        own = [
            next(reversed(lane.values())).turn
            for (of_priority, of_owner, _), lane in self._lanes.items()
            if (of_priority, of_owner) == (priority, owner)
        ]
        return max(self._turns.get(priority, 0), *own, 0) + 1

    def fits(self, place: Place) -> bool:
        """Return whether the limits allow it to run beside those that do."""
        return self._has_room(place) and self._has_key(place)

    def _has_room(self, place: Place) -> bool:
        if self._max_running is not None and len(self._running) >= self._max_running:
            return False
        limit = place.agent_limit
        return limit is None or self._counts[_AGENT, place.agent] < limit

    def _has_key(self, place: Place) -> bool:
        return place.key is None or not place.exclusive or not self._counts[_KEY, *place.key]

    def take(self, place: Place) -> None:
        """Give the run a slot; if it waited, it does no more. It has none yet."""
        assert place.run_id not in self._running
        self.withdraw(place.run_id)
        self._running[place.run_id] = place
        self._turns[place.priority] = max(self._turns.get(place.priority, 0), place.turn)
        self._count(place, 1)

    def give_back(self, run_id: RunId) -> bool:
        """Take the run's slot back, and return whether it had one. May be called twice."""
        place = self._running.pop(run_id, None)
        if place is not None:
            self._count(place, -1)
        return place is not None

    def wait(self, place: Place) -> None:
        """Let the run wait behind those that are in its lane."""
        self._turns.setdefault(place.priority, place.turn - 1)
        self._waiting[place.run_id] = place
        self._lanes.setdefault(place.lane, {})[place.run_id] = place

    def withdraw(self, run_id: RunId) -> bool:
        """Let the run wait no more, and return whether it did. May be called twice."""
        place = self._waiting.pop(run_id, None)
        if place is None:
            return False
        lane = self._lanes[place.lane]
        del lane[run_id]
        if not lane:
            del self._lanes[place.lane]
        return True

    def first(self) -> Place | None:
        """Return the run that is next, of those that fit; None if nothing does."""
        return min(self._fitting(), key=self._order, default=None)

    def _fitting(self) -> Iterator[Place]:
        """Yield the first of each lane that fits. Costs a look at each run whose key is taken."""
        for lane in self._lanes.values():
            if self._has_room(next(iter(lane.values()))):
                yield from islice(filter(self._has_key, lane.values()), 1)

    def _order(self, place: Place) -> tuple[int, int, int, int]:
        return -place.priority, self._counts[_OWNER, place.owner], place.turn, place.number

    def _count(self, place: Place, more: int) -> None:
        counted: list[tuple[str, ...]] = [(_AGENT, place.agent), (_OWNER, place.owner)]
        if place.key is not None:
            counted.append((_KEY, *place.key))
        for each in counted:
            self._counts[each] += more
            if not self._counts[each]:
                del self._counts[each]
