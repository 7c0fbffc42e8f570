"""The part of a client that is for whoever operates a server: halts, and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from api.transport import Transport
from orchestrator import StopMode

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules, in the order of their ids."""
        return list(self._call("GET", "/schedules")["schedules"])

    def schedule(
        self, agent: str, input: Mapping[str, Any] | None = None, *, cron: str, **more: Any
    ) -> dict[str, Any]:
        """Start an agent again and again, and return the schedule.

        Args:
            more: ``zone id options missed overlap``, as in ``POST /schedules``.
        """
        order = {"agent": agent, "input": dict(input or {}), "cron": cron, **more}
        answer: dict[str, Any] = self._call("POST", "/schedules", body=order)
        return answer

    def pause_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let it fire no more until it is resumed."""
        answer: dict[str, Any] = self._call("POST", f"{_path_of(schedule_id)}/pause")
        return answer

    def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let it fire again from now on."""
        answer: dict[str, Any] = self._call("POST", f"{_path_of(schedule_id)}/resume")
        return answer

    def unschedule(self, schedule_id: str) -> None:
        """Forget a schedule; its runs go on."""
        self._send("DELETE", _path_of(schedule_id))


def _path_of(schedule_id: str) -> str:
    return f"/schedules/{quote(schedule_id, safe='')}"
