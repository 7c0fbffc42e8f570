"""The calls of the interface in the log: those that change something, and those that fail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.answered import Answered

_log = logging.getLogger("quiesce.calls")

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def log_answer(answered: Answered) -> None:
    """Say what was asked and how it was answered; what only reads is told at ``debug``."""
    level = logging.DEBUG if answered.method in _SAFE else logging.INFO
    if answered.status in (401, 403):
        level = logging.INFO
    if answered.status >= 500:
        level = logging.WARNING
    if not _log.isEnabledFor(level):
        return
    about = {"run_id": answered.run_id, "principal": answered.principal}
    fields = {
        "method": answered.method,
        "route": answered.route,
        "status": answered.status,
        "seconds": round(answered.seconds, 6),
        "client": answered.client,
        **{name: value for name, value in about.items() if value},
    }
    _log.log(level, "call", extra=fields)
