"""A run's partial result: encoded as often as its size allows, and at the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from orchestrator.agent import as_json
from orchestrator.errors import InvalidInput
from orchestrator.events import RunLog, RunPartial
from orchestrator.store.writes import SavePartial

if TYPE_CHECKING:
    from orchestrator.model import Json
    from orchestrator.ports import RunPort

# Of the time between two encodings, the share that encoding may take.
_SHARE = 0.05


class PartialResult:
    """The latest value, and whether it waits to be encoded."""

    __slots__ = ("_not_before", "_run", "_timer", "_value", "_waiting")

    def __init__(self, run: RunPort) -> None:
        self._run = run
        run.has_partial = True
        self._timer = run.timer(self.write)
        self._value: Json = None
        self._waiting = False
        self._not_before = 0.0

    def set(self, value: Json) -> None:
        """Take a new value; it is written at once or as soon as encoding it is cheap enough.

        Raises:
            InvalidInput: it was to be written at once and is not JSON.
        """
        self._value = value
        if trio.current_time() >= self._not_before:
            self._waiting = False
            self._encode()
        else:
            self._waiting = True
            self._timer.set(self._not_before)

    def write(self) -> None:
        """Write the value if it waits. May be called at any time; not a checkpoint."""
        if not self._waiting:
            return
        self._waiting = False
        try:
            self._encode()
        except InvalidInput as error:
            self._run.tell(RunLog("error", str(error)))

    def _encode(self) -> None:
        began = trio.current_time()
        encoded = json.dumps(as_json(self._value, "partial")).encode()
        ended = trio.current_time()
        self._not_before = ended + (ended - began) / _SHARE
        self._run.tell(RunPartial(len(encoded)), SavePartial(self._run.id, encoded))
