"""How much of a page its parser gets through in bounded time.

A parser of HTML cannot be stopped in its middle, and there are pages of a few megabytes that take
it hours: it looks through all open elements at every tag, through all attributes of an element at
each further one, and through all options at each further one; and it opens again whatever
formatting was left open. So pages are looked through before they are parsed, and end where that
would become too much. Where this reads a page otherwise than the parser does, it takes it for the
more laborious.
"""

from __future__ import annotations

import re
from collections import Counter

from orchestrator.agents._crawl.heed import Heed, heedless

# Browsers stop at 512.
MAX_NESTING = 1_000
# Each is compared with all before it.
MAX_ATTRIBUTES = 2_000
# What the parser may take on the machine that the costs below were measured on. Ten MiB
# of an ordinary page take it two thirds of that.
EFFORT_NS = 500_000_000

_TAG_NS = 500
_OPEN_NS = 4
_ATTRIBUTE_NS = 300
_TWO_ATTRIBUTES_NS = 6
_OPTION_NS = 12
# It is memory that this is about: each is an element.
_FORMATTING_NS = 2_000
_FORMATTING_FREE = 3
# Of those that are equal the parser opens no more again ("Noah's Ark" in the standard).
_EQUALS = 3

_ATTRIBUTE = r"""
    [\t\n\f\r\x20/]*+ [^\t\n\f\r\x20/>] [^\t\n\f\r\x20/>=]*+
    (?: [\t\n\f\r\x20]*+ = [\t\n\f\r\x20]*+
        (?: "[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z) | [^\t\n\f\r\x20"'>][^\t\n\f\r\x20>]*+ )?+
    )?+
"""
_ATTRIBUTES = re.compile(_ATTRIBUTE, re.VERBOSE)
_TOKEN = re.compile(
    rf"""
    <!--(?P<comment>-?>)?
    | <(?P<end>/?)(?P<name>[a-z][^\t\n\f\r\x20/>]*+)
      (?P<attributes>(?:{_ATTRIBUTE}){{0,{MAX_ATTRIBUTES}}}+) [\t\n\f\r\x20/]*+
      (?: > | \Z | (?P<more>) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_END_OF_COMMENT = re.compile("--!?>")
_words = re.compile(r"\w+").findall
# No tags are read in these, unless they stand where nothing but certain elements may.
_RAW = _words("iframe noembed noframes script style textarea title xmp")
_END_OF_RAW = {name: re.compile(f"</{name}", re.IGNORECASE) for name in _RAW}
_NOT_RAW_IN = ("svg", "math", "select")
# An end tag closes nothing outside of these.
_BARRIERS = frozenset(_words("applet marquee math object select svg table template"))
_FORMATTING = frozenset(_words("b big code em font i nobr s small strike strong tt u"))
# Elements that are never open for long, or that close each other.
_FLAT = frozenset(
    _words(
        """
        a area base br col embed hr img input link meta param source track wbr
        body dd dt head html li optgroup option p rp rt tbody td tfoot th thead tr
        """
    )
)
# There is one of each, and further tags add their attributes to it.
_ONE = frozenset({"html", "body"})


def end_of_easy(html: str, heed: Heed = heedless) -> int:
    """Return where a page becomes too much for its parser; its length if it does not."""
    so_far, at = _SoFar(), 0
    while (token := _TOKEN.search(html, at)) is not None:
        heed()
        at = token.end()
        if token["name"] is None:
            if token["comment"] is None:
                at = _end_of(_END_OF_COMMENT, html, at)
            continue
        name = token["name"].lower()
        if token["end"]:
            so_far.close(name)
        else:
            so_far.open(name, token["attributes"])
            if name in _END_OF_RAW and so_far.reads_raw:
                at = _end_of(_END_OF_RAW[name], html, at)
        if so_far.is_too_much or token["more"] is not None:
            return token.start()
    return len(html)


def _end_of(pattern: re.Pattern[str], html: str, at: int) -> int:
    found = pattern.search(html, at)
    return len(html) if found is None else found.start()


class _SoFar:
    """What is open where the page has been looked through, and what that took the parser."""

    def __init__(self) -> None:
        self._opened: list[str] = []
        self._open = Counter[str]()
        self._barriers = 0
        # Of each kind: the attributes, and how many barriers were open outside of it.
        self._formatting: dict[str, list[tuple[str, int]]] = {name: [] for name in _FORMATTING}
        self._formatted = 0
        self._options = 0
        self._shared = 0
        self._ns = 0

    @property
    def is_too_much(self) -> bool:
        return len(self._opened) > MAX_NESTING or self._ns > EFFORT_NS

    @property
    def reads_raw(self) -> bool:
        return not any(self._open[name] for name in _NOT_RAW_IN)

    def open(self, name: str, attributes: str) -> None:
        """Take a start tag."""
        self._tag()
        if attributes:
            self._attributes(name, sum(1 for _ in _ATTRIBUTES.finditer(attributes)))
        if name == "option":
            self._options += 1
            self._ns += _OPTION_NS * self._options
        if name in _FORMATTING:
            self._format(name, attributes)
        if name not in _FLAT:
            self._opened.append(name)
            self._open[name] += 1
            self._barriers += name in _BARRIERS

    def close(self, name: str) -> None:
        """Take an end tag."""
        self._tag()
        # What was left open is opened again outside, even if what it stood in is closed.
        alike = self._formatting.get(name)
        if alike and alike[-1][1] >= self._barriers:
            alike.pop()
            self._formatted -= 1
        if self._open[name] and self._is_within_reach(name):
            while True:
                last = self._opened.pop()
                self._open[last] -= 1
                self._barriers -= last in _BARRIERS
                if last == name:
                    return

    def _format(self, name: str, attributes: str) -> None:
        alike, new = self._formatting[name], (attributes, self._barriers)
        alike.append(new)
        if alike.count(new) > _EQUALS:
            alike.remove(new)
        else:
            self._formatted += 1

    def _is_within_reach(self, name: str) -> bool:
        for each in reversed(self._opened):
            if each == name:
                return True
            if each in _BARRIERS:
                return False
        return False

    def _tag(self) -> None:
        self._ns += _TAG_NS + _OPEN_NS * len(self._opened)
        if self._formatted > _FORMATTING_FREE:
            self._ns += _FORMATTING_NS * (self._formatted - _FORMATTING_FREE)

    def _attributes(self, name: str, number: int) -> None:
        others = number / 2
        if name in _ONE:
            others += self._shared
            self._shared += number
        self._ns += int(number * (_ATTRIBUTE_NS + _TWO_ATTRIBUTES_NS * others))
