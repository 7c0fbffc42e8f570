"""How a site is asked: paced, each try an operation, with retries and the waits between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from orchestrator.agents._crawl.fetch import BODY_BYTES, fetch, retry_after, wait_before_retry
from orchestrator.agents._crawl.frontier import Pacer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator.agents._crawl.fetch import Reply
    from orchestrator.context import Context

T = TypeVar("T")

# As many as RFC 9309 asks for.
FILE_HOPS = 5


class Asker:
    """Asks one site at a time; all that it sends goes through here.

    Attributes:
        delay_s: the least time between the starts of two requests that the user asked for.
    """

    def __init__(self, ctx: Context, delay_s: float) -> None:
        self._ctx = ctx
        self._delay_s = delay_s
        self._pacer = Pacer(delay_s)

    def slow_down(self, delay_s: float) -> None:
        """Keep to a delay that the site asks for, if it is the larger one."""
        self._pacer.interval_s = max(self._delay_s, delay_s)

    async def ask(
        self,
        url: str,
        settle: Callable[[Reply], Awaitable[T]],
        *,
        html_only: bool = False,
        max_bytes: int = BODY_BYTES,
    ) -> T:
        """Fetch an address, trying again where that may help, and return what ``settle`` makes
        of the last answer. A checkpoint.

        ``settle`` runs inside the operation, so that a stop leaves it time to keep the answer.
        The waits are outside, so that a stop ends them at once.
        """
        attempt = 1
        while True:
            await self._ctx.sleep(self._pacer.reserve(trio.current_time()))
            async with self._ctx.operation("http", f"GET {url}"):
                reply = await fetch(self._ctx.http, url, html_only=html_only, max_bytes=max_bytes)
                wait_s = wait_before_retry(reply, attempt)
                if wait_s is None:
                    return await settle(reply)
            await self._wait(reply, wait_s)
            attempt += 1

    async def file(self, url: str, stays: Callable[[str], bool], *, max_bytes: int) -> Reply:
        """Fetch a file that is no page, through redirects to where ``stays`` is true."""
        reply = await self.ask(url, _as_it_is, max_bytes=max_bytes)
        for _ in range(FILE_HOPS):
            target = reply.redirect
            if target is None or not stays(target):
                break
            reply = await self.ask(target, _as_it_is, max_bytes=max_bytes)
        return reply

    async def _wait(self, reply: Reply, wait_s: float) -> None:
        await self._ctx.log(f"{reply.url} {reply.problem}; next try in {wait_s:.1f} s", "warning")
        if retry_after(reply.headers) is None:
            await self._ctx.sleep(wait_s)
        else:  # the site wants to be left alone, not this address
            self._pacer.hold(trio.current_time() + wait_s)


async def _as_it_is(reply: Reply) -> Reply:
    return reply
