"""Reading what the site sent, in threads, so that a large page holds nobody up.

No thread is left to itself: one that is not waited for any more is told so, looks for that between
one small piece of work and the next, and whoever waited goes on once it has ended.
"""

from __future__ import annotations

from dataclasses import replace
from time import thread_time
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio
from trio.from_thread import check_cancelled

from orchestrator.agents._crawl.page import read_page
from orchestrator.agents._crawl.robots import Robots
from orchestrator.agents._crawl.sitemap import Sitemap, read_sitemap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.agents._crawl.fetch import Reply
    from orchestrator.agents._crawl.page import Html
    from orchestrator.agents._crawl.scope import Scope

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# How many are read at once, and the longest that one may take.
THREADS = 2
READ_S = 30.0
# Processor time for asking which of the addresses on one page may be fetched. RFC 9309 wants 500
# KiB of rules to be heeded, each may have to be compared with each address, and that can take
# minutes. A page's most links against a hundred rules with wildcards, which is many, take 0.6 s.
JUDGE_S = 2.0


class Reader:
    """Reads what a site sends, and leaves out what is not in the scope.

    Each method is a checkpoint, and returns or raises only when no thread works for it any more.
    """

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def robots(self, url: str, body: bytes) -> Robots | None:
        """Return what a robots.txt says; None if it takes too long to read."""
        return await self._read(Robots, url, body, check_cancelled)

    async def allows(self, robots: Robots, url: str) -> bool:
        """Whether a robots.txt allows an address; not if it takes too long to say."""
        return await self._read(robots.allows, url) or False

    async def why_not(self, scope: Scope, url: str) -> str | None:
        """Return why an address may not be fetched, as ``Scope.why_not`` does."""
        late = f"it could not be told within {READ_S:g} seconds whether that is allowed"
        (why,) = await self._read(lambda: (scope.why_not(url),)) or (late,)
        return why

    async def page(self, reply: Reply, scope: Scope) -> tuple[Html, list[str]] | None:
        """Return what an HTML page says and the links on it that may be followed; None if it
        takes too long to read."""
        return await self._read(_page, reply, scope)

    async def sitemap(self, reply: Reply, scope: Scope) -> Sitemap:
        """Return what a sitemap says, as far as it may be followed."""
        return await self._read(_sitemap, reply, scope) or Sitemap(problem="it took too long")

    async def _read(self, read: Callable[[*Ts], T], *args: *Ts) -> T | None:
        with trio.move_on_after(READ_S):
            return await trio.to_thread.run_sync(read, *args, limiter=self._limiter)
        return None


def _page(reply: Reply, scope: Scope) -> tuple[Html, list[str]]:
    robots_tag = reply.headers.get("x-robots-tag", "")
    html = read_page(reply.url, reply.body, reply.content_type, robots_tag, check_cancelled)
    links, all_judged = _allowed(html.links, scope)
    return (html if all_judged else replace(html, truncated=True)), links


def _sitemap(reply: Reply, scope: Scope) -> Sitemap:
    sitemap = read_sitemap(reply.url, reply.body, check_cancelled)
    sitemap.pages, all_judged = _allowed(sitemap.pages, scope)
    if not all_judged:
        sitemap.problem = f"comparing it with robots.txt took more than {JUDGE_S:g} seconds"
    return sitemap


def _allowed(urls: Iterable[str], scope: Scope) -> tuple[list[str], bool]:
    """Return the addresses that may be fetched, and whether there was time to look at all."""
    until = thread_time() + JUDGE_S
    allowed: list[str] = []
    for url in urls:
        check_cancelled()
        if thread_time() > until:
            return allowed, False
        if scope.allows(url):
            allowed.append(url)
    return allowed, True
