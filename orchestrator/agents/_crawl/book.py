"""What a crawl has found so far, kept page by page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from orchestrator.agents._crawl.frontier import Frontier
    from orchestrator.context import Context

ARTIFACT = "pages.jsonl"
_LISTED = ("url", "title", "status", "depth", "error")


class Book:
    """The pages of one crawl: as an artifact in full, as partial result and result in short.

    Attributes:
        result: ``{"pages": [{"url", "title", "status", "depth"}], "known", "done"}``.
        site_is_known: set once it can be told how large a share one page is; until then the
            progress stays at 0.
    """

    def __init__(self, ctx: Context, frontier: Frontier) -> None:
        self._ctx = ctx
        self._frontier = frontier
        self._percent = 0.0
        self._turn = trio.Lock()
        self.result: dict[str, Any] = {"pages": [], "known": 0, "done": 0}
        self.site_is_known = False

    async def keep(self, page: dict[str, Any]) -> None:
        """Keep a page that was taken from the frontier. Call it inside the operation."""
        line = json.dumps(page, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        # The first page, which is kept before others are asked for, takes the place of what was
        # kept before a crash.
        more, kind = bool(self.result["pages"]), "application/x-ndjson"
        await self._ctx.artifact(ARTIFACT, line, append=more, media_type=kind)
        # Without a checkpoint since the artifact, so that both have it or neither.
        self.result["pages"].append({key: page[key] for key in _LISTED if key in page})
        self._frontier.finish()
        # Shielded, so that a stop cannot come between; what is not told in time is told with the
        # next page.
        with self._ctx.cleanup():
            await self.tell()

    async def tell(self) -> None:
        """Tell how far the crawl is; the percentage never falls."""
        # In turns, since what is told after a wait would else be older than what was told before.
        async with self._turn:
            done, total = self._frontier.done, self._frontier.total
            self.result.update(known=self._frontier.known, done=done)
            if self.site_is_known:
                self._percent = max(self._percent, min(99.0, 100.0 * done / max(total, 1)))
            await self._ctx.partial(self.result)
            await self._ctx.progress(self._percent, f"{done} of {total} pages")
