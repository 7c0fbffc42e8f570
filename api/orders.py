"""The bodies of calls that concern a whole server."""

from __future__ import annotations

from typing import Any

import pydantic

from api.schema import MAX_WAIT_S, Order
from orchestrator import StopMode


class HaltOrder(Order):
    """The body of ``POST /halt``; all of it may be left out."""

    mode: StopMode = StopMode.GRACEFUL
    grace_s: float | None = pydantic.Field(None, strict=True, ge=0, le=86_400)
    reason: str = pydantic.Field("", max_length=2_000)
    wait_s: float = pydantic.Field(0, strict=True, ge=0, le=MAX_WAIT_S)


class ScheduleOrder(Order):
    """The body of ``POST /schedules``."""

    agent: str
    cron: str
    input: dict[str, Any] = pydantic.Field({})
    options: dict[str, Any] = pydantic.Field({})
    zone: str = "UTC"
    missed: str = "skip"
    overlap: str = "skip"
    id: str | None = pydantic.Field(None, min_length=1)
