"""The documentation as a small website: ``docs/**/*.md`` rendered, with navigation.

``python -m api.site FOLDER`` writes it; ``site_app`` serves it from memory.
"""

from __future__ import annotations

import mimetypes
import posixpath
import re
import sys
from dataclasses import dataclass, field
from html import escape
from itertools import groupby, pairwise
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import trio
from markdown_it import MarkdownIt
from quart import Response, abort
from quart_trio import QuartTrio

import api
from orchestrator import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token

NAME = "Quiesce"
STYLE = "style.css"
# The order of the folders in the navigation; others come after them.
ORDER = ("", "tutorial", "how-to", "reference", "explanation")

_HERE = Path(api.__file__).parent
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class NoDocumentation(OrchestratorError):
    """There is no documentation to show."""


@dataclass(slots=True)
class Page:
    """One rendered page.

    Attributes:
        path: where it is in the site, such as ``how-to/stop-a-run.html``.
        anchors: the ids of its headings.
        links: the paths and fragments within the site that it links to.
    """

    path: str
    title: str = ""
    body: str = ""
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """The folder that it is in, empty for the top."""
        return posixpath.dirname(self.path)


@dataclass(frozen=True, slots=True)
class Site:
    """A whole website.

    Attributes:
        files: path -> content.
        broken: one line for each link that leads nowhere.
    """

    files: dict[str, bytes]
    broken: list[str]


def docs_folder() -> Path:
    """Return where the documentation is: in an installed package, or beside it in a checkout.

    Raises:
        NoDocumentation: it is in neither place.
    """
    for folder in (_HERE / "docs", _HERE.parent / "docs"):
        if (folder / "index.md").is_file():
            return folder
    raise NoDocumentation(f"there is no documentation beside {_HERE}; use a checkout or a wheel")


def build_site(folder: Path) -> Site:
    """Render every Markdown file below the folder; other files are taken as they are."""
    files: dict[str, bytes] = {STYLE: (_HERE / "site.css").read_bytes()}
    pages = []
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        path = source.relative_to(folder).as_posix()
        if source.suffix == ".md":
            pages.append(render(path, source.read_text("utf-8")))
        else:
            files[path] = source.read_bytes()
    pages.sort(key=_place)
    template = Template((_HERE / "site.html").read_text("utf-8"))
    for page in pages:
        files[page.path] = _html(page, pages, template).encode()
    return Site(files, list(_broken(pages, files)))


def render(path: str, source: str) -> Page:
    """Render one page.

    Args:
        path: of the Markdown file, below the folder of the documentation.
    """
    page = Page(_html_path(path))
    tokens = _MARKDOWN.parse(source)
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            heading.attrSet("id", _anchor(text, page.anchors))
            if heading.tag == "h1" and not page.title:
                page.title = text
    for token in tokens:
        _relink(token.children or [], page)
    page.title = page.title or Path(path).stem
    page.body = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return page


def site_app(delay_s: float, folder: Path | None = None) -> QuartTrio:
    """Return an application that serves the site from memory.

    Args:
        delay_s: each page comes so many seconds late.
        folder: of the Markdown files; None for this package's documentation.
    """
    files = build_site(folder or docs_folder()).files
    app = QuartTrio("api.site", static_folder=None)

    @app.get("/", defaults={"path": "index.html"})
    @app.get("/<path:path>")
    async def file(path: str) -> Response:
        if path not in files:
            abort(404)
        if path.endswith(".html"):
            await trio.sleep(delay_s)
        kind, _ = mimetypes.guess_type(path)
        return Response(files[path], content_type=kind or "application/octet-stream")

    return app


def write_site(site: Site, folder: Path) -> None:
    """Write every file of the site below the folder, which is made if absent."""
    for path, content in site.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def main(arguments: Sequence[str]) -> int:
    """Write this package's documentation; 1 if a link in it leads nowhere."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m api.site FOLDER\n")
        return 2
    site = build_site(docs_folder())
    write_site(site, Path(arguments[0]))
    sys.stderr.writelines(f"{line}\n" for line in site.broken)
    return 1 if site.broken else 0


def _anchor(text: str, taken: set[str]) -> str:
    """Return a heading's id, as code hosts make it."""
    slug = anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    number = 0
    while anchor in taken:
        number += 1
        anchor = f"{slug}-{number}"
    taken.add(anchor)
    return anchor


def _relink(tokens: Sequence[Token], page: Page) -> None:
    """Point links to Markdown files at their pages; what leads out of the site is no link."""
    outside = False
    for token in tokens:
        if token.type == "link_open":
            href = _target(str(token.attrs["href"]), page)
            outside = href is None
            token.attrs["href"] = href or ""
        if outside and token.type in ("link_open", "link_close"):
            token.tag, token.attrs = "span", {}


def _target(href: str, page: Page) -> str | None:
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        return href
    joined = posixpath.join(page.folder, unquote(parts.path)) if parts.path else page.path
    path = posixpath.normpath(joined)
    if path.startswith("../"):
        return None
    page.links.append((_html_path(path), unquote(parts.fragment)))
    return parts._replace(path=_html_path(parts.path)).geturl()


def _html_path(path: str) -> str:
    return f"{path.removesuffix('.md')}.html" if path.endswith(".md") else path


def _place(page: Page) -> tuple[int, str, bool, str]:
    """Return where a page stands in the navigation: its folder, and there the index first."""
    order = ORDER.index(page.folder) if page.folder in ORDER else len(ORDER)
    return order, page.folder, posixpath.basename(page.path) != "index.html", page.path


def _html(page: Page, pages: Sequence[Page], template: Template) -> str:
    return template.substitute(
        title=escape(page.title if page.title == NAME else f"{page.title} · {NAME}"),
        style=_relative(STYLE, page),
        nav="\n".join(_nav(page, pages)),
        body=page.body,
    )


def _nav(page: Page, pages: Sequence[Page]) -> Iterator[str]:
    for folder, members in groupby(pages, key=lambda each: each.folder):
        if folder:
            yield f"<p>{escape(folder.capitalize())}</p>"
        yield "<ul>"
        for member in members:
            current = ' aria-current="page"' if member is page else ""
            href = escape(_relative(member.path, page))
            yield f'<li><a href="{href}"{current}>{escape(member.title)}</a></li>'
        yield "</ul>"


def _relative(path: str, page: Page) -> str:
    return quote(posixpath.relpath(path, page.folder or "."))


def _broken(pages: Sequence[Page], files: dict[str, bytes]) -> Iterator[str]:
    anchors = {page.path: page.anchors for page in pages}
    for page in pages:
        for path, fragment in page.links:
            if path not in files:
                yield f"{page.path}: there is no {path}"
            elif fragment and fragment not in anchors.get(path, ()):
                yield f"{page.path}: there is no #{fragment} in {path}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
