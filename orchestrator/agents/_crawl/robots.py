"""robots.txt, as RFC 9309 and its common extensions have it."""

from __future__ import annotations

from protego import Protego

from orchestrator.agents._crawl.urls import resolve

USER_AGENT = "Quiesce"
# RFC 9309 asks for at least 500 KiB.
ROBOTS_BYTES = 512 * 1024


class Robots:
    """What a robots.txt says to this crawler.

    Attributes:
        delay_s: the least time between two requests that it asks for, 0 if it asks for none.
        sitemaps: where sitemaps may be, resolved: those that it names, and the usual place.
    """

    def __init__(self, url: str, body: bytes = b"") -> None:
        """Read the file.

        Args:
            url: where it is.
            body: as it came; the empty one allows everything.
        """
        self._rules = Protego.parse(body.decode("utf-8-sig", "replace"))
        self.delay_s = self._rules.crawl_delay(USER_AGENT) or 0.0
        places = (resolve(url, sitemap) for sitemap in [*self._rules.sitemaps, "/sitemap.xml"])
        self.sitemaps = tuple(dict.fromkeys(place for place in places if place))

    def allows(self, url: str) -> bool:
        """Whether a resolved address of its site may be fetched."""
        return self._rules.can_fetch(url, USER_AGENT)
