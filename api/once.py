"""Starts that happen once, however often they are asked for under the same key.

A key is stored in the transaction that starts its run, so no crash comes between the two. A
caller that hangs up, or never hears the answer, asks again with the same key and gets the same run.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator import InvalidInput, OrchestratorError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from orchestrator import Orchestrator, Run, RunId

COLLECTION = "idempotency"
HEADER = "Idempotency-Key"
KEPT_S = 86_400.0
# How many keys are looked at, whether they are too old, for each one that is new.
LOOK = 20

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class KeyReused(OrchestratorError):
    """The `Idempotency-Key` was used for another request; choose a new key."""


class KeySpent(OrchestratorError):
    """The run that this `Idempotency-Key` has started is not kept any more; choose a new key."""


class KeyInUse(OrchestratorError):
    """A start under this `Idempotency-Key` is under way; ask again in a moment."""


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's key, and what it was given for.

    Attributes:
        name: unique among the keys of all callers.
        request: the same for requests that ask for the same.
    """

    name: str
    request: str


def read_key(given: Sequence[str], principal: str, request: Any) -> Key:
    """Return the key that a request carries.

    Args:
        given: the values of its header, one or more.
        request: what it asks for, as JSON.

    Raises:
        InvalidInput: it is no key.
    """
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise InvalidInput([(HEADER, "must be 1 to 255 visible ASCII characters, given once")])
    said = json.dumps(request, sort_keys=True).encode()
    return Key(json.dumps([principal, given[0]]), hashlib.sha256(said).hexdigest())


@dataclass(slots=True)
class _Start:
    """A start that is under way; ``run`` is None until it was admitted."""

    request: str
    run: Run | None = None

    @property
    def over(self) -> bool:
        """Whether the store says what has become of it."""
        if self.run is None:
            return False
        if self.run.withdrawn:
            return self.run.ended.is_set()
        return self.run.shown is not None


class Starts:
    """The starts of one server that have a key."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._under_way: dict[str, _Start] = {}
        # Keys that were stored since somebody began to look for those that are too old.
        self._new: set[str] | None = None
        self._looked_up_to = ""

    async def once(
        self, key: Key | None, begin: Callable[[], Awaitable[Run]]
    ) -> tuple[RunId, bool]:
        """Return the id of the key's run, and whether it was started before.

        Args:
            key: None to start a run in any case.
            begin: admits the run in the step in which it returns.

        Raises:
            KeyReused, KeyInUse: nothing was started.
            StoreUnavailable: nothing was started, and the key is free, or will be with the store.
        """
        if key is None:
            return (await self._orchestrator.stored(await begin())).id, False
        await self._free(key)
        start = self._claim(key)
        try:
            if (known := await self._known(key)) is not None:
                return known, True
            run = start.run = await begin()
            self._keep(key, run)
            await self._orchestrator.stored(run)
        finally:
            # A caller that leaves while its run becomes durable leaves the key taken until then.
            if start.run is None or start.over:
                self._under_way.pop(key.name, None)
        await self._tidy()
        return run.id, False

    async def _free(self, key: Key) -> None:
        """Wait until a start under the key that was withdrawn has left nothing in the store.

        Raises:
            StoreUnavailable: it may still be there.
        """
        start = self._under_way.get(key.name)
        if start is None or start.run is None or not start.run.withdrawn:
            return
        await self._orchestrator.durable(start.run.withdrawn)
        if self._under_way.get(key.name) is start:
            del self._under_way[key.name]

    def _claim(self, key: Key) -> _Start:
        self._under_way = {name: each for name, each in self._under_way.items() if not each.over}
        other = self._under_way.get(key.name)
        if other is not None:
            raise KeyInUse() if other.request == key.request else KeyReused()
        start = self._under_way[key.name] = _Start(key.request)
        return start

    async def _known(self, key: Key) -> RunId | None:
        """Return the run that was started under the key; None if it is new, or too old."""
        kept = await self._orchestrator.document(COLLECTION, key.name)
        if kept is None or kept["until"] <= self._orchestrator.now():
            return None
        if kept["request"] != key.request:
            raise KeyReused()
        run_id: RunId = kept["run_id"]
        return run_id

    def _keep(self, key: Key, run: Run) -> None:
        until = self._orchestrator.now(KEPT_S)
        entry = {"request": key.request, "run_id": run.id, "until": until}
        self._orchestrator.keep_along(run, COLLECTION, key.name, entry)
        if self._new is not None:
            self._new.add(key.name)

    async def _tidy(self) -> None:
        """Look at some of the keys, in turn, and drop those that are too old."""
        if self._new is not None:
            return
        after, now, self._new = self._looked_up_to, self._orchestrator.now(), set()
        try:
            found = await self._orchestrator.kept(COLLECTION, after=after, limit=LOOK)
            self._looked_up_to = found[-1][0] if len(found) == LOOK else ""
            for name, entry in found:
                if entry["until"] <= now and name not in self._new:
                    self._orchestrator.drop(COLLECTION, name)
        except StoreUnavailable:
            pass  # the start is done; others will look
        finally:
            self._new = None
