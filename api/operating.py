"""The part of a client that is for whoever operates a server: halts, and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api import asks
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
        return self._do(asks.halt(mode, grace_s, reason, wait_s))

    def halted(self) -> dict[str, Any]:
        """Return the ``halt`` that is on, or None for it, and how many runs are ``live``."""
        return self._do(asks.halted())

    def lift(self) -> None:
        """Let runs start again. May be called at any time."""
        self._do(asks.lift())

    def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules, in the order of their ids."""
        return self._do(asks.schedules())

    def schedule(
        self, agent: str, input: Mapping[str, Any] | None = None, *, cron: str, **more: Any
    ) -> dict[str, Any]:
        """Start an agent again and again, and return the schedule.

        Args:
            more: ``zone id options missed overlap``, as in ``POST /schedules``.
        """
        return self._do(asks.schedule(agent, input, cron, more))

    def pause_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let it fire no more until it is resumed."""
        return self._do(asks.move_schedule(schedule_id, "pause"))

    def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let it fire again from now on."""
        return self._do(asks.move_schedule(schedule_id, "resume"))

    def unschedule(self, schedule_id: str) -> None:
        """Forget a schedule; its runs go on."""
        self._do(asks.unschedule(schedule_id))
