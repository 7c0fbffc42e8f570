"""Which addresses a crawl may fetch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

from orchestrator.agents._crawl.robots import Robots
from orchestrator.agents._crawl.urls import normal_percent, path_and_query, site_of

if TYPE_CHECKING:
    from collections.abc import Sequence

# What has a meaning of its own in a glob or in an address.
_GLOB_SAFE = "/:@!$&'()*+,;=%?[]^|\\"


def glob(pattern: str) -> str:
    """Validate a glob for the path and query of addresses.

    Raises:
        ValueError: no address could match it.
    """
    if not pattern.startswith(("/", "*", "?", "[")):
        raise ValueError(
            "is matched against the path and query of an address, so it must begin with / or *,"
            f" for instance */{pattern}"
        )
    return pattern


@dataclass(frozen=True, slots=True)
class Scope:
    """One site, less what its robots.txt and the user leave out. Never changes."""

    site: str
    robots: Robots
    include: re.Pattern[str] | None
    exclude: re.Pattern[str] | None

    @classmethod
    def of(cls, site: str, robots: Robots, include: Sequence[str], exclude: Sequence[str]) -> Scope:
        """Make the scope; no ``include`` includes everything."""
        return cls(site, robots, _any_of(include), _any_of(exclude))

    def allows(self, url: str) -> bool:
        """Whether a resolved address may be fetched."""
        return self.why_not(url) is None

    def why_not(self, url: str) -> str | None:
        """Return why a resolved address may not be fetched, as the end of a sentence; None if it
        may."""
        if site_of(url) != self.site:
            return "that is on another site"
        path = path_and_query(url)
        if self.include is not None and not self.include.match(path):
            return "no `include` pattern matches that"
        if self.exclude is not None and self.exclude.match(path):
            return "an `exclude` pattern matches that"
        if not self.robots.allows(url):
            return "robots.txt disallows that"
        return None


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    if not globs:
        return None
    return re.compile("|".join(translate(normal_percent(each, _GLOB_SAFE)) for each in globs))


# Before the site is known.
NOWHERE = Scope.of("", Robots("http://nowhere.invalid/robots.txt"), (), ())
