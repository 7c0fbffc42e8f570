"""Sessions of browsers: a cookie that stands for credentials which are checked anew each time."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

import trio

from api.auth.identity import Unidentified

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api.auth.identity import Identity

COOKIE = "quiesce_session"
SESSION_S = 7 * 86_400
# More than people log in; the oldest goes then.
MAX_SESSIONS = 10_000


class _Session(NamedTuple):
    again: Callable[[], Awaitable[Identity]]
    until: float


class Sessions:
    """Who has logged in. In memory: they end with the process."""

    def __init__(self) -> None:
        # In the order of their ends, since all last equally long.
        self._open: dict[str, _Session] = {}

    def open(self, again: Callable[[], Awaitable[Identity]]) -> str:
        """Begin a session and return its id, which nobody can guess. Not a checkpoint.

        Args:
            again: says who it is, each time anew; once it raises ``Unidentified`` the session
                has ended.
        """
        self._tidy()
        session_id = secrets.token_urlsafe(32)
        self._open[session_id] = _Session(again, trio.current_time() + SESSION_S)
        return session_id

    async def identify(self, session_id: str | None) -> Identity | None:
        """Return whose session that is; None if it is none, or none any more."""
        session = self._open.get(session_id or "")
        if session is None or session.until <= trio.current_time():
            return None
        try:
            return await session.again()
        except Unidentified:
            self.close(session_id)
            return None

    def close(self, session_id: str | None) -> None:
        """End a session. May be called twice, and for any id."""
        self._open.pop(session_id or "", None)

    def _tidy(self) -> None:
        while self._open:
            oldest = next(iter(self._open))
            lasts = self._open[oldest].until > trio.current_time()
            if lasts and len(self._open) < MAX_SESSIONS:
                return
            self.close(oldest)
