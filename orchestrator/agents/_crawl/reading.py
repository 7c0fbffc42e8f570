"""Reading what the site sent, in threads, so that a large page holds nobody up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from orchestrator.agents._crawl.page import read_page
from orchestrator.agents._crawl.sitemap import Sitemap, read_sitemap

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.agents._crawl.fetch import Reply
    from orchestrator.agents._crawl.page import Html
    from orchestrator.agents._crawl.scope import Scope

T = TypeVar("T")

# How many are read at once, and the longest that one may take.
THREADS = 2
READ_S = 30.0


class Reader:
    """Reads pages and sitemaps, and leaves out what is not in the scope."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def page(self, reply: Reply, scope: Scope) -> tuple[Html, list[str]] | None:
        """Return what an HTML page says and the links on it that may be followed; None if it
        takes too long to read."""
        return await self._read(_page, reply, scope)

    async def sitemap(self, reply: Reply, scope: Scope) -> Sitemap:
        """Return what a sitemap says, as far as it may be followed."""
        return await self._read(_sitemap, reply, scope) or Sitemap(problem="it took too long")

    async def _read(
        self, read: Callable[[Reply, Scope], T], reply: Reply, scope: Scope
    ) -> T | None:
        with trio.move_on_after(READ_S):
            return await trio.to_thread.run_sync(
                read, reply, scope, abandon_on_cancel=True, limiter=self._limiter
            )
        return None


def _page(reply: Reply, scope: Scope) -> tuple[Html, list[str]]:
    robots_tag = reply.headers.get("x-robots-tag", "")
    html = read_page(reply.url, reply.body, reply.content_type, robots_tag)
    return html, [link for link in html.links if scope.allows(link)]


def _sitemap(reply: Reply, scope: Scope) -> Sitemap:
    sitemap = read_sitemap(reply.url, reply.body)
    sitemap.pages = [page for page in sitemap.pages if scope.allows(page)]
    return sitemap
