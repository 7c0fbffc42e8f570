"""What is read out of an HTML page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selectolax.lexbor import LexborHTMLParser

from orchestrator.agents._crawl.effort import end_of_easy
from orchestrator.agents._crawl.heed import heedless
from orchestrator.agents._crawl.robots import USER_AGENT
from orchestrator.agents._crawl.text import decode, squeeze
from orchestrator.agents._crawl.urls import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from selectolax.lexbor import LexborNode

    from orchestrator.agents._crawl.heed import Heed

TITLE_CHARS = 300
TEXT_CHARS = 500_000
MAX_LINKS = 10_000

_INVISIBLE = "script, style, template, iframe, noframes, svg, math, [hidden]"
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        """
        address article aside blockquote body br button caption center dd details dialog dir div dl
        dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr legend li main menu
        nav ol option p pre section select summary table tbody td textarea tfoot th thead tr ul
        """,
    )
)
# Parts the lines of the text while its own line breaks are still in it.
_EDGE = "\x1e"


@dataclass(frozen=True, slots=True)
class Html:
    """What a page says.

    Attributes:
        text: what a reader sees, one line for each block; empty if it is not to be indexed.
        links: resolved, without duplicates, in the page's order; empty if none may be followed.
        canonical: the resolved address that the page says is its own, if it says so.
        truncated: some of the page was too long, or too much for a parser, and left out.
    """

    title: str
    text: str
    links: tuple[str, ...]
    canonical: str | None
    noindex: bool
    truncated: bool


def read_page(
    url: str, body: bytes, content_type: str = "", robots_tag: str = "", heed: Heed = heedless
) -> Html:
    """Read an HTML page, however broken.

    Takes up to seconds for the largest pages, of which half a second at most cannot be ended by
    ``heed``: call it in a thread.

    Args:
        url: where it is, resolved.
        robots_tag: the ``X-Robots-Tag`` header.
    """
    source = decode(body, content_type)
    easy = source[: end_of_easy(source, heed)]
    heed()
    tree = LexborHTMLParser(easy)
    heed()
    directives = _directives(tree, robots_tag)
    base = _base(tree, url)
    # Before the text, which takes the tree apart.
    links = () if "nofollow" in directives else tuple(_links(tree, base, heed))
    canonical = _canonical(tree, base)
    title = _title(tree)
    noindex = "noindex" in directives
    text = "" if noindex else _visible_text(tree, heed)
    return Html(
        title="" if noindex else title,
        text=text[:TEXT_CHARS],
        links=links,
        canonical=canonical,
        noindex=noindex,
        truncated=len(easy) < len(source) or len(text) > TEXT_CHARS,
    )


def _directives(tree: LexborHTMLParser, robots_tag: str) -> set[str]:
    """Return the robots directives that are for all, or for this crawler."""
    said = [
        node.attributes.get("content") or ""
        for node in tree.css("meta[name][content]")
        if (node.attributes["name"] or "").strip().lower() in ("robots", USER_AGENT.lower())
    ]
    # In the header a directive for another crawler is written `otherbot: noindex`.
    said += [part.removeprefix(f"{USER_AGENT.lower()}:") for part in robots_tag.lower().split(",")]
    words = {word.strip().lower() for part in said for word in part.split(",")}
    return words | ({"noindex", "nofollow"} if "none" in words else set())


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    if node is None:
        return url
    return resolve(url, node.attributes["href"] or "") or url


def _links(tree: LexborHTMLParser, base: str, heed: Heed) -> Iterable[str]:
    # Fragments go first: an index has a hundred links into the same page.
    written: dict[str, None] = {}
    for node in tree.css("a[href], area[href]"):
        heed()
        attributes = node.attributes
        if "nofollow" not in (attributes.get("rel") or "").lower().split():
            written[(attributes["href"] or "").partition("#")[0]] = None
        if len(written) >= MAX_LINKS:
            break
    found: dict[str, None] = {}
    for href in written:
        heed()
        if (link := resolve(base, href)) is not None:
            found[link] = None
    return found


def _canonical(tree: LexborHTMLParser, base: str) -> str | None:
    for node in tree.css("head > link[rel][href]"):
        if "canonical" in (node.attributes["rel"] or "").lower().split():
            return resolve(base, node.attributes["href"] or "")
    return None


def _title(tree: LexborHTMLParser) -> str:
    node = tree.css_first("head > title") or tree.css_first("body > title")
    return "" if node is None else squeeze(node.text())[:TITLE_CHARS]


def _visible_text(tree: LexborHTMLParser, heed: Heed) -> str:
    """Return the text, one line for each block, and hardly longer than what is kept."""
    if tree.body is None:
        return ""
    for node in tree.body.css(_INVISIBLE):
        heed()
        node.decompose()
    pieces: list[str] = []
    length = 0
    for piece in _pieces(tree.body, heed):
        pieces.append(piece)
        length += len(piece)
        if length > 2 * TEXT_CHARS:
            break
    lines = (squeeze(line) for line in "".join(pieces).split(_EDGE))
    return "\n".join(line for line in lines if line)


def _pieces(body: LexborNode, heed: Heed) -> Iterator[str]:
    """Yield the text nodes in order, and a mark wherever another block begins or goes on."""
    # The innermost block around what is in each element, by the elements' ids.
    block_in = {body.mem_id: body.mem_id}
    current = body.mem_id
    for node in body.traverse(include_text=True):
        heed()
        parent = node.parent
        block = block_in.get(parent.mem_id, current) if parent is not None else current
        if node.tag == "-text":
            if block != current:
                yield _EDGE
            current = block
            yield node.text_content or ""
        elif node.tag in _BLOCKS:
            block_in[node.mem_id] = node.mem_id
            yield _EDGE
        else:
            block_in[node.mem_id] = block
