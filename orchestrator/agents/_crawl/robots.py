"""robots.txt, as RFC 9309 and its common extensions have it."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from protego import Protego

from orchestrator.agents._crawl.heed import heedless
from orchestrator.agents._crawl.urls import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.agents._crawl.heed import Heed

USER_AGENT = "Quiesce"
# RFC 9309 asks for at least 500 KiB.
ROBOTS_BYTES = 512 * 1024

_AGENT = re.compile(r"\s*(user[- ]?agent(?:\s*:|\s))([^#]*)", re.IGNORECASE)
# Stands for all other crawlers.
_OTHERS = "others"


class Robots:
    """What a robots.txt says to this crawler.

    Attributes:
        delay_s: the least time between two requests that it asks for, 0 if it asks for none.
        sitemaps: where sitemaps may be, resolved: those that it names, and the usual place.
    """

    def __init__(self, url: str, body: bytes = b"", heed: Heed = heedless) -> None:
        """Read the file. Takes up to a second for the largest: call it in a thread.

        Args:
            url: where it is.
            body: as it came; the empty one allows everything.
        """
        lines = _for_us(body.decode("utf-8-sig", "replace"), heed)
        self._rules = Protego.parse("\n".join(lines))
        self.delay_s = self._rules.crawl_delay(USER_AGENT) or 0.0
        places: dict[str, None] = {}
        for sitemap in chain(self._rules.sitemaps, ["/sitemap.xml"]):
            heed()
            if place := resolve(url, sitemap):
                places[place] = None
        self.sitemaps = tuple(places)

    def allows(self, url: str) -> bool:
        """Whether a resolved address of its site may be fetched.

        Takes up to a tenth of a second where there are many rules: call it in a thread.
        """
        return self._rules.can_fetch(url, USER_AGENT)


def _for_us(text: str, heed: Heed) -> Iterator[str]:
    """Yield the lines, with all crawlers that are not this one as one.

    The parser copies each rule for each crawler that it is for: 4,000 crawlers with 4,000 rules,
    which are 75 KB, take it 30 seconds and gigabytes.
    """
    for line in text.splitlines():
        heed()
        agent = _AGENT.match(line)
        yield f"{agent[1]} {_known(agent[2])}" if agent else line


def _known(agent: str) -> str:
    """Return the name of a crawler, if it can mean this one."""
    name = agent.strip().lower()
    if name == "*":
        return name
    # The parser takes asterisks out of names, and a beginning of a name for the name.
    name = name.replace("*", "")
    return name if name and USER_AGENT.lower().startswith(name) else _OTHERS
