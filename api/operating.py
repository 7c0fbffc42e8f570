"""The part of a client that is for whoever operates a server: halts, and schedules."""

from __future__ import annotations

from typing import Any

from api.transport import Transport
from orchestrator import StopMode


class Operating(Transport):
    """What concerns all runs of a server. Answers are JSON objects as they came."""

    def halt(
        self,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        wait_s: float = 0,
    ) -> dict[str, Any]:
        """Stop every run and let nothing start until ``lift``. Durable when this returns.

        Args:
            wait_s: how long to wait for the runs to be torn down.

        Returns:
            ``halt``, ``runs_stopped`` and ``results``, one for each run.
        """
        order: dict[str, Any] = {"mode": StopMode(mode), "reason": reason, "wait_s": wait_s}
        if grace_s is not None:
            order["grace_s"] = grace_s
        answer: dict[str, Any] = self._call("POST", "/halt", body=order, wait_s=wait_s)
        return answer

    def halted(self) -> dict[str, Any]:
        """Return the ``halt`` that is on, or None for it, and how many runs are ``live``."""
        answer: dict[str, Any] = self._call("GET", "/halt")
        return answer

    def lift(self) -> None:
        """Let runs start again. May be called at any time."""
        self._send("DELETE", "/halt")
