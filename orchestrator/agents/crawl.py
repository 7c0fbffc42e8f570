"""The built-in web crawler: breadth first within one site, polite, bounded, and stoppable.

Each request is one operation, and what is kept of its answer is kept inside it: after a stop
whatever was in flight is in the partial result, and nothing new is asked of the site.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import trio
from pydantic import AfterValidator, Field

from orchestrator.agent import agent
from orchestrator.agents._crawl.asking import Asker
from orchestrator.agents._crawl.book import Book
from orchestrator.agents._crawl.frontier import Frontier
from orchestrator.agents._crawl.reading import READ_S, Reader
from orchestrator.agents._crawl.robots import ROBOTS_BYTES, USER_AGENT
from orchestrator.agents._crawl.scope import NOWHERE, Scope, glob
from orchestrator.agents._crawl.sitemap import SITEMAP_BYTES, Sitemap
from orchestrator.agents._crawl.urls import resolve, site_of, start_url

if TYPE_CHECKING:
    from orchestrator.agents._crawl.fetch import Reply
    from orchestrator.agents._crawl.frontier import Item
    from orchestrator.agents._crawl.page import Html
    from orchestrator.agents._crawl.robots import Robots
    from orchestrator.context import Context

MAX_CONCURRENCY = 64
MAX_HOPS = 10
MAX_SITEMAPS = 20

Url = Annotated[str, AfterValidator(start_url), Field(json_schema_extra={"format": "uri"})]
Glob = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(glob)]
Globs = Annotated[tuple[Glob, ...], Field(max_length=100)]


class CrawlFailed(RuntimeError):
    """The page that a crawl begins with could not be fetched."""


@agent(name="crawl", http_concurrency=MAX_CONCURRENCY)
async def crawl(
    ctx: Context,
    url: Url,
    max_pages: Annotated[int, Field(ge=1, le=100_000)] = 100,
    max_depth: Annotated[int, Field(ge=0, le=1_000)] = 10,
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 8,
    delay_s: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = 0.0,
    include: Globs = (),
    exclude: Globs = (),
) -> dict[str, Any]:
    """Crawl one website, breadth first, and keep the text of its pages.

    The site is the host and port of `url` after its redirects; links that lead elsewhere are not
    followed. Its robots.txt is obeyed (user agent `Quiesce`), its sitemaps are used, and so are
    `nofollow`, `noindex` and canonical addresses. Each page is a JSON line in the artifact
    `pages.jsonl`, with its text; the result lists them: `{"pages": [{"url", "title", "status",
    "depth"}], "known", "done"}`, and so does the partial result while the crawl goes on. A page
    that could not be fetched has an `error`; the run fails only if that is the first one.

    - `max_pages`: the crawl ends after so many pages.
    - `max_depth`: how many links away from the start; 0 for the first page alone.
    - `concurrency`: requests under way at once.
    - `delay_s`: the least time between the starts of two requests, in seconds; the site's
      robots.txt may ask for more.
    - `include`, `exclude`: shell globs for the path and query, such as `/docs/*` or `*.pdf`; `*`
      matches slashes too. Only pages that match an `include` (if there is any) and no `exclude`
      are fetched, besides the first one.
    """
    frontier = Frontier(max_pages=max_pages, max_depth=max_depth, concurrency=concurrency)
    scope_of = partial(Scope.of, include=include, exclude=exclude)
    job = _Crawl(ctx, frontier, Asker(ctx, delay_s), scope_of)
    await job.begin(url)
    await job.read_sitemaps()
    await job.crawl()
    return job.book.result


class _Crawl:
    def __init__(
        self, ctx: Context, frontier: Frontier, asker: Asker, scope_of: partial[Scope]
    ) -> None:
        self.ctx = ctx
        self.frontier = frontier
        self.asker = asker
        self.scope_of = scope_of
        self.scope = NOWHERE
        self.book = Book(ctx, frontier)
        self.reader = Reader()

    # The first page decides which site it is

    async def begin(self, url: str) -> None:
        """Fetch the first page, wherever its redirects lead, and the robots.txt of its site.

        Raises:
            CrawlFailed: it cannot be had; the message says why.
        """
        self.frontier.offer([url], depth=0)
        item = self.frontier.take()
        assert item is not None
        await self.book.tell()
        passed: list[str] = []
        target: str | None = url
        while target is not None:
            passed.append(target)
            await self._enter(target)
            settle = partial(self._settle_first, item, passed)
            target = await self.asker.ask(target, settle, html_only=True)

    async def _enter(self, url: str) -> None:
        """See to it that the scope is that of this address's site, and that it is allowed."""
        site = site_of(url)
        if self.scope.site != site:
            robots = await self._robots(url)
            self.scope = self.scope_of(site, robots)
            self.asker.slow_down(robots.delay_s)
        if not await self.reader.allows(self.scope.robots, url):
            raise CrawlFailed(
                f"{url} may not be crawled: the robots.txt of {site} disallows it"
                f" for the user agent {USER_AGENT}"
            )

    async def _robots(self, url: str) -> Robots:
        at = resolve(url, "/robots.txt")
        assert at is not None
        reply = await self.asker.file(at, lambda _: True, max_bytes=ROBOTS_BYTES)
        if reply.status is None:
            raise CrawlFailed(f"{url} {reply.problem}")
        if reply.status == 429 or reply.status >= 500:
            raise CrawlFailed(
                f"{url} may not be crawled: {at} {reply.problem}, and while a site cannot say"
                " what it allows, nothing is allowed; try again later"
            )
        robots = await self.reader.robots(at, reply.body)
        if robots is None:
            raise CrawlFailed(
                f"{url} may not be crawled: {at} could not be read within {READ_S:g} seconds"
            )
        return robots

    async def _settle_first(self, item: Item, passed: list[str], reply: Reply) -> str | None:
        """Keep the first page, or return the address that its answer redirects to."""
        target = reply.redirect
        if target is None:
            if reply.problem:
                raise CrawlFailed(f"{reply.url} {reply.problem}")
            await self._keep(item, passed, reply)
        elif why := _endless(target, passed):
            raise CrawlFailed(f"{passed[0]} cannot be fetched: {why}")
        else:
            self.frontier.claim(target)
        return target

    # Sitemaps

    async def read_sitemaps(self) -> None:
        """Add the pages of the site's sitemaps to the frontier, while more can be used."""
        waiting = deque((url, 0) for url in self.scope.robots.sitemaps)
        left = MAX_SITEMAPS if self.frontier.max_depth >= 1 else 0
        while waiting and left and self.frontier.known < self.frontier.max_pages:
            left -= 1
            url, level = waiting.popleft()
            sitemap = await self._sitemap(url)
            self.frontier.offer(sitemap.pages, depth=1)
            if level == 0:
                waiting.extend((nested, 1) for nested in sitemap.sitemaps)
        self.book.site_is_known = True
        await self.book.tell()

    async def _sitemap(self, url: str) -> Sitemap:
        if not self._is_here(url) or not await self.reader.allows(self.scope.robots, url):
            return Sitemap()
        reply = await self.asker.file(url, self._is_here, max_bytes=SITEMAP_BYTES)
        if reply.problem:
            return Sitemap()
        sitemap = await self.reader.sitemap(reply, self.scope)
        if sitemap.problem:
            await self.ctx.log(f"{url} could not be read as a sitemap: {sitemap.problem}")
        return sitemap

    def _is_here(self, url: str) -> bool:
        return site_of(url) == self.scope.site

    # All other pages

    async def crawl(self) -> None:
        """Fetch all that the frontier gives out. It gives out no more when nothing is left and
        nothing is in flight, or when there are enough pages: then the nursery is empty."""
        async with trio.open_nursery() as nursery:
            self._fill(nursery)
        await self.ctx.progress(100, f"{self.frontier.done} pages")

    def _fill(self, nursery: trio.Nursery) -> None:
        while item := self.frontier.take():
            nursery.start_soon(self._visit, item, nursery)

    async def _visit(self, item: Item, nursery: trio.Nursery) -> None:
        passed: list[str] = []
        target: str | None = item.url
        while target is not None:
            passed.append(target)
            settle = partial(self._settle, item, passed)
            target = await self.asker.ask(target, settle, html_only=True)
        self._fill(nursery)

    async def _settle(self, item: Item, passed: list[str], reply: Reply) -> str | None:
        """Keep a page, or return the address that its answer redirects to."""
        target = reply.redirect
        if target is None:
            await self._keep(item, passed, reply)
            return None
        why = _endless(target, passed)
        if why is None and (refusal := await self.reader.why_not(self.scope, target)):
            why = f"redirects, but {refusal}"
        if why is None and self.frontier.claim(target):
            return target
        page = _page(item, passed, reply) | {"redirected_to": target}
        await self.book.keep(page | ({} if why is None else {"error": why}))
        return None

    async def _keep(self, item: Item, passed: list[str], reply: Reply) -> None:
        page = _page(item, passed, reply)
        if reply.problem:
            page["error"] = reply.problem
        elif reply.is_html:
            read = await self.reader.page(reply, self.scope)
            if read is None:
                page["error"] = f"could not be read as HTML within {READ_S:g} seconds"
            else:
                html, links = read
                self.frontier.offer(links, item.depth + 1)
                page |= self._said(reply, html)
        await self.book.keep(page)

    def _said(self, reply: Reply, html: Html) -> dict[str, Any]:
        """Return what a page says, less its text where another page has it already."""
        said: dict[str, Any] = {"title": html.title or None, "text": html.text}
        if html.noindex:
            said["noindex"] = True
        if reply.truncated or html.truncated:
            said["truncated"] = True
        canonical = html.canonical or reply.url
        if canonical == reply.url or not self._is_here(canonical):
            self.frontier.cover(reply.url)
        else:
            said["canonical"] = canonical
            if not self.frontier.cover(canonical):
                said |= {"duplicate": True, "text": ""}
        return said


def _endless(target: str, passed: list[str]) -> str | None:
    """Return why a redirect leads nowhere, if it does."""
    if target in passed:
        return "its redirects lead back to itself"
    if len(passed) > MAX_HOPS:
        return f"it redirects more than {MAX_HOPS} times"
    return None


def _page(item: Item, passed: list[str], reply: Reply) -> dict[str, Any]:
    """Return what can be said of any page, in the artifact's form."""
    page = {
        "url": reply.url,
        "title": None,
        "status": reply.status,
        "depth": item.depth,
        "content_type": reply.media_type,
        "text": "",
    }
    return page | ({"redirected_from": passed[:-1]} if len(passed) > 1 else {})
