"""When a cron expression is due, in a time zone.

The rules are those of Debian's cron, also where clocks are changed: what is due at a fixed time is
due once on each day, also when that time is skipped or comes twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from orchestrator.errors import InvalidInput

_MOST_CHARACTERS = 200
_FIELDS = "minute, hour, day of month, month, day of week, and before them seconds if wanted"


def check_cron(expression: str, zone: str, now: datetime) -> None:
    """Refuse what is no cron expression, or never due.

    Raises:
        InvalidInput: names ``cron`` or ``zone``.
    """
    _zone_of(zone)
    if len(expression) > _MOST_CHARACTERS:
        raise InvalidInput([("cron", f"has more than {_MOST_CHARACTERS} characters")])
    try:
        due = next_after(expression, zone, now)
    except CronSimError as error:
        why = f"{expression!r} is no cron expression ({error}); its fields are {_FIELDS}"
        raise InvalidInput([("cron", why)]) from None
    if due is None:
        raise InvalidInput([("cron", f"{expression!r} is not due in the next 50 years")])


def next_after(expression: str, zone: str, after: datetime) -> datetime | None:
    """Return when the expression is due next, later than ``after``; None for not in 50 years."""
    for tick in CronSim(expression, after.astimezone(_zone_of(zone))):
        due = tick.astimezone(UTC)
        # In an hour that comes twice, what was due in its first pass is told again.
        if due > after:
            return due
    return None


def _zone_of(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        why = f"{name[:60]!r} is no time zone; write one like Europe/Berlin or UTC"
        raise InvalidInput([("zone", why)]) from None
