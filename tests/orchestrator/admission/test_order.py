"""Who is next: the pure decisions, against the rules written down once more."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import RunId
from orchestrator.admission import Admission, Place

if TYPE_CHECKING:
    from collections.abc import Callable


def a_place(number: int, **fields: Any) -> Place:
    known = {
        "run_id": RunId(f"run_{number}"),
        "agent": "a",
        "agent_limit": None,
        "owner": "",
        "priority": 0,
        "key": None,
        "exclusive": False,
        "number": number,
        "turn": 0,
        "since": 0.0,
    }
    return Place(**known | fields)


class Queue:
    """An admission, and how runs come to it and leave it."""

    def __init__(self, max_running: int | None = 1) -> None:
        self.admission = Admission(max_running)
        self._numbers = itertools.count()

    def come(self, **fields: Any) -> Place:
        place = a_place(next(self._numbers), **fields)
        place = place._replace(turn=self.admission.turn(place.owner, place.priority))
        self.admission.wait(place)
        return place

    def start_all(self) -> list[Place]:
        """Start what fits, and return it in order."""
        started = []
        while (place := self.admission.first()) is not None:
            self.admission.take(place)
            started.append(place)
        return started

    def drain(self) -> list[Place]:
        """Start and end everything, the oldest first, and return it in the order of the starts."""
        order = running = self.start_all()
        while running:
            assert self.admission.give_back(running[0].run_id)
            started = self.start_all()
            running, order = running[1:] + started, order + started
        return order


def owners_of(places: list[Place]) -> str:
    return "".join(place.owner for place in places)


def test_runs_of_one_owner_start_in_the_order_of_their_coming() -> None:
    queue = Queue()
    came = [queue.come() for _ in range(5)]
    assert queue.drain() == came


def test_the_higher_priority_is_first_whoever_came_before() -> None:
    queue = Queue()
    low, high, middle = (queue.come(priority=priority) for priority in (-1, 5, 0))
    assert queue.drain() == [high, middle, low]


def test_owners_take_turns_and_a_latecomer_does_not_wait_behind_the_whole_queue() -> None:
    queue = Queue()
    for _ in range(4):
        queue.come(owner="a")
    (first,) = queue.start_all()
    for _ in range(2):
        queue.come(owner="b")
    queue.admission.give_back(first.run_id)
    assert owners_of(queue.drain()) == "ababa"


def test_turns_are_not_saved_up() -> None:
    queue = Queue()
    queue.come(owner="a")
    queue.drain()
    for _ in range(3):
        queue.come(owner="b")
    queue.drain()
    for owner in "ababab":
        queue.come(owner=owner)
    assert owners_of(queue.drain()) == "ababab"


def test_a_run_that_was_withdrawn_costs_its_owner_no_turn() -> None:
    queue = Queue()
    first = queue.come(owner="a")
    queue.start_all()
    for gone in [queue.come(owner="a") for _ in range(10)]:
        assert queue.admission.withdraw(gone.run_id)
    for owner in "abab":
        queue.come(owner=owner)
    queue.admission.give_back(first.run_id)
    assert owners_of(queue.drain()) == "abab"


def test_the_owner_of_long_runs_gets_its_share_of_slots_and_no_more() -> None:
    queue = Queue(max_running=4)
    long = [queue.come(owner="a") for _ in range(8)]
    assert queue.start_all() == long[:4]
    for _ in range(4):
        queue.come(owner="b")
    # Two of the long ones end: each time the owner with fewer slots has the next one.
    for place in long[:2]:
        queue.admission.give_back(place.run_id)
    assert owners_of(queue.start_all()) == "bb"
    queue.admission.give_back(long[2].run_id)
    assert owners_of(queue.start_all()) == "a"


def test_what_does_not_fit_does_not_hold_up_what_does() -> None:
    queue = Queue(max_running=None)
    for _ in range(2):
        queue.come(agent="narrow", agent_limit=1)
    queue.come(key=("", "k"), exclusive=True)
    queue.come(key=("", "k"), exclusive=True)
    queue.come(agent="wide")
    assert [place.number for place in queue.start_all()] == [0, 2, 4]


def test_a_run_that_shares_its_key_waits_for_nobody_and_is_waited_for() -> None:
    queue = Queue(max_running=None)
    (shared, alone, again) = (
        queue.come(key=("", "k"), exclusive=exclusive) for exclusive in (False, True, False)
    )
    assert queue.start_all() == [shared, again]
    for place in (shared, again):
        queue.admission.give_back(place.run_id)
    assert queue.start_all() == [alone]


def test_keys_of_different_owners_are_different() -> None:
    queue = Queue(max_running=None)
    for owner in "ab":
        queue.come(owner=owner, key=(owner, "k"), exclusive=True)
    assert owners_of(queue.start_all()) == "ab"


def test_a_slot_is_given_back_once() -> None:
    queue = Queue(max_running=2)
    (one, *_) = [queue.come() for _ in range(5)]
    queue.start_all()
    assert queue.admission.give_back(one.run_id)
    assert not queue.admission.give_back(one.run_id)
    assert len(queue.start_all()) == 1
    assert queue.admission.running == 2


def test_the_queue_says_since_when_the_oldest_waits() -> None:
    queue = Queue()
    queue.come(since=1.0)
    queue.come(since=3.0, agent="b")
    queue.come(since=2.0)
    assert queue.admission.oldest == 1.0
    (first,) = queue.start_all()
    assert queue.admission.oldest == 2.0
    queue.admission.give_back(first.run_id)
    queue.drain()
    assert queue.admission.oldest is None


# The same against the rules, for whatever comes, starts, ends and is withdrawn.

COMERS = st.fixed_dictionaries(
    {
        "agent": st.sampled_from("xy"),
        "owner": st.sampled_from("abc"),
        "priority": st.sampled_from([0, 0, 0, 3]),
        "key": st.sampled_from([None, None, "k", "l"]),
        "exclusive": st.booleans(),
    }
)
DEEDS = st.one_of(
    COMERS,
    COMERS,
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("withdraw"), st.integers(0, 9)),
)
LIMITS: dict[str, int | None] = {"x": 2, "y": None}


class Rules:
    """The rules of the order, written down as naively as can be."""

    def __init__(self, max_running: int | None) -> None:
        self.max_running = max_running
        self.running: list[Place] = []
        self.waiting: list[Place] = []

    def fits(self, place: Place) -> bool:
        same_agent = sum(each.agent == place.agent for each in self.running)
        return (
            (self.max_running is None or len(self.running) < self.max_running)
            and (place.agent_limit is None or same_agent < place.agent_limit)
            and not (
                place.exclusive
                and place.key is not None
                and any(each.key == place.key for each in self.running)
            )
        )

    def next(self) -> Place | None:
        fitting = [place for place in self.waiting if self.fits(place)]
        held = Counter(place.owner for place in self.running)
        return min(
            fitting, key=lambda p: (-p.priority, held[p.owner], p.turn, p.number), default=None
        )

    def check(self) -> None:
        assert self.max_running is None or len(self.running) <= self.max_running
        assert all(n <= (LIMITS[agent] or n) for agent, n in self._by(lambda p: p.agent).items())
        for key, n in self._by(lambda p: p.key).items():
            holders = [place for place in self.running if place.key == key]
            assert key is None or n == 1 or not holders[-1].exclusive

    def _by(self, name: Callable[[Place], Any]) -> Counter[Any]:
        return Counter(map(name, self.running))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.none() | st.integers(1, 3), st.lists(DEEDS, max_size=40))
def test_slots_are_never_leaked_or_exceeded_and_the_order_is_that_of_the_rules(
    max_running: int | None, deeds: list[Any]
) -> None:
    queue, rules = Queue(max_running), Rules(max_running)
    for deed in deeds:
        match deed:
            case {"owner": owner, "agent": agent, "key": key}:
                own = None if key is None else (owner, key)
                known = deed | {"key": own, "agent_limit": LIMITS[agent]}
                rules.waiting.append(queue.come(**known))
            case ("end", n) if rules.running:
                ended = rules.running.pop(n % len(rules.running))
                assert queue.admission.give_back(ended.run_id)
            case ("withdraw", n) if rules.waiting:
                gone = rules.waiting.pop(n % len(rules.waiting))
                assert queue.admission.withdraw(gone.run_id)
        while (expected := rules.next()) is not None:
            found = queue.admission.first()
            assert found == expected
            queue.admission.take(found)
            rules.waiting.remove(found)
            rules.running.append(found)
            rules.check()
        assert queue.admission.first() is None
        assert queue.admission.running == len(rules.running)
        assert queue.admission.waiting == len(rules.waiting)
    for place in rules.running + rules.waiting:
        assert queue.admission.give_back(place.run_id) != queue.admission.withdraw(place.run_id)
    assert not queue.admission._counts
    assert not queue.admission._lanes


@pytest.mark.slow
@given(st.lists(COMERS, max_size=12), st.integers(0, 12), st.integers(1, 2))
def test_the_order_survives_a_restart(
    comers: list[dict[str, Any]], ends: int, max_running: int
) -> None:
    """What waits is put into a new admission, with its turns and in the order of its age; what
    was running is lost there, and is ended here."""
    queue = Queue(max_running)
    for comer in comers:
        queue.come(**comer | {"key": None})
    running = queue.start_all()
    for _ in range(min(ends, len(running))):
        queue.admission.give_back(running.pop(0).run_id)
        running += queue.start_all()
    waiting = sorted(queue.admission._waiting.values(), key=lambda place: place.number)
    later = Queue(max_running)
    for place in sorted(waiting, key=lambda place: place.turn):
        later.admission.wait(place)
    for place in running:
        queue.admission.give_back(place.run_id)
    assert later.drain() == queue.drain()
