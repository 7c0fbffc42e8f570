"""The pages of the documentation, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

_markdown = MarkdownIt("commonmark").enable("table")
_FILE_NAME = re.compile(r"# ([\w-]+\.(?:py|yaml))\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; ``line`` is that of its opening fence."""

    language: str
    text: str
    page: Path
    line: int

    @property
    def file_name(self) -> str | None:
        """The file to save it as, if its first line is a comment that names one."""
        named = _FILE_NAME.match(self.text)
        return named and named[1]

    @property
    def where(self) -> str:
        """What to call it when it is wrong."""
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """Return the page's path within the repository."""
    return page.relative_to(ROOT).as_posix()


@cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    """Return the fenced blocks of a page, in order."""
    return tuple(
        Block(token.info.strip(), token.content, page, token.map[0] + 1)
        for token in _markdown.parse(page.read_text())
        if token.type == "fence" and token.map
    )


def all_blocks(*languages: str) -> list[Block]:
    """Return every block in one of those languages."""
    return [b for page in PAGES for b in blocks_of(page) if b.language in languages]


def links_of(page: Path) -> list[str]:
    """Return the addresses of the page's links and pictures."""
    inline = [token for token in _markdown.parse(page.read_text()) if token.type == "inline"]
    found = [
        t for token in inline for t in token.children or () if t.type in ("link_open", "image")
    ]
    return [str(t.attrs.get("href") or t.attrs.get("src")) for t in found]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    tokens = _markdown.parse(page.read_text())
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def code_in(page: Path) -> set[str]:
    """Return every piece of inline code of the page."""
    inline = [token for token in _markdown.parse(page.read_text()) if token.type == "inline"]
    return {t.content for token in inline for t in token.children or () if t.type == "code_inline"}


def rows_of(page: Path) -> list[list[str]]:
    """Return the rows of the page's tables, each cell as Markdown."""
    tokens = _markdown.parse(page.read_text())
    rows: list[list[str]] = []
    for token, after in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(after.content)
    return rows
