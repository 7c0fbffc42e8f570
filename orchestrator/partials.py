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
    from orchestrator.timers import Timer

# Of the time between two encodings, the share that encoding may take.
_SHARE = 0.05


class PartialResult:
    """The latest value, and whether it waits to be encoded."""

    __slots__ = ("_not_before", "_run", "_timer", "_value")

    def __init__(self, run: RunPort) -> None:
        self._run = run
        run.has_partial = True
        self._value: Json = None
        # Rings while the value waits; one that is not set is not kept, since it holds this.
        self._timer: Timer | None = None
        self._not_before = 0.0

    def set(self, value: Json) -> None:
        """Take a new value; it is written at once or as soon as encoding it is cheap enough.

        Raises:
            InvalidInput: it was to be written at once and is not JSON.
        """
        self._value = value
        if trio.current_time() >= self._not_before:
            self._wait_no_more()
            self._encode()
        elif self._timer is None:
            self._timer = self._run.timer(self.write)
            self._timer.set(self._not_before)

    def write(self) -> None:
        """Write the value if it waits. May be called at any time; not a checkpoint."""
        if self._timer is None:
            return
        self._wait_no_more()
        try:
            self._encode()
        except InvalidInput as error:
            self._run.tell(RunLog("error", str(error)))

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.unset()
            self._timer = None

    def _encode(self) -> None:
        began = trio.current_time()
        encoded = json.dumps(as_json(self._value, "partial")).encode()
        ended = trio.current_time()
        self._not_before = ended + (ended - began) / _SHARE
        self._run.tell(RunPartial(len(encoded)), SavePartial(self._run.id, encoded))
