"""The documentation as a website: pages, navigation, links, and the slow site of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import pytest
import trio
from selectolax.lexbor import LexborHTMLParser

from api import site as site_module
from api.site import NoDocumentation, build_site, docs_folder, main, render, site_app

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

PAGES = {
    "index.md": "# Quiesce\n\nSee [stopping](how-to/stop.md#now) and the [list](how-to/).\n",
    "how-to/stop.md": "# Stop & go\n\n## Now\n\n[home](../index.md), [here](#now), ![](a.svg)\n",
    "how-to/begin.md": "# Begin\n",
    "how-to/a.svg": "<svg></svg>",
    "reference/api.md": "no heading\n",
    "zoo/animal.md": "# Animal\n",
}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A small documentation."""
    for name, text in PAGES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def links(html: bytes, css: str = "a") -> list[tuple[str, str]]:
    tree = LexborHTMLParser(html)
    return [(node.text(), node.attributes.get("href") or "") for node in tree.css(css)]


def text(html: bytes, css: str) -> list[str]:
    return [node.text() for node in LexborHTMLParser(html).css(css)]


def test_every_page_has_a_title_and_the_same_navigation(docs: Path) -> None:
    files = build_site(docs).files

    assert [path for path in files if path.endswith(".html")] == [
        "index.html",
        "how-to/begin.html",
        "how-to/stop.html",
        "reference/api.html",
        "zoo/animal.html",
    ]
    page = files["how-to/stop.html"]
    assert text(page, "title") == ["Stop & go · Quiesce"]
    assert links(page, "nav a") == [
        ("Quiesce", "../index.html"),
        ("Begin", "begin.html"),
        ("Stop & go", "stop.html"),
        ("api", "../reference/api.html"),
        ("Animal", "../zoo/animal.html"),
    ]
    assert text(page, "nav [aria-current=page]") == ["Stop & go"]
    assert text(page, "nav p") == ["How-to", "Reference", "Zoo"]
    assert text(files["index.html"], "title") == ["Quiesce"]


def test_links_between_markdown_files_become_links_between_pages(docs: Path) -> None:
    site = build_site(docs)

    assert links(site.files["index.html"], "main a")[0] == ("stopping", "how-to/stop.html#now")
    assert links(site.files["how-to/stop.html"], "main a") == [
        ("home", "../index.html"),
        ("here", "#now"),
    ]
    assert site.files["how-to/a.svg"] == b"<svg></svg>"


def test_links_that_lead_nowhere_are_named(docs: Path) -> None:
    (docs / "reference/api.md").write_text("[a](none.md) [b](../how-to/stop.md#then) [c](#d)")

    assert build_site(docs).broken == [
        "index.html: there is no how-to",
        "reference/api.html: there is no reference/none.html",
        "reference/api.html: there is no #then in how-to/stop.html",
        "reference/api.html: there is no #d in reference/api.html",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("[x](../../LICENSE) y", "<p><span>x</span> y</p>\n"),
        ("[x](https://example.org/a.md)", '<p><a href="https://example.org/a.md">x</a></p>\n'),
        ("[x](mailto:a@b)", '<p><a href="mailto:a@b">x</a></p>\n'),
        ("[x](b%20c.md?d#e)", '<p><a href="b%20c.html?d#e">x</a></p>\n'),
        ("```py\na < b\n```", '<pre><code class="language-py">a &lt; b\n</code></pre>\n'),
        ("## A `b` & c!\n", '<h2 id="a-b--c">A <code>b</code> &amp; c!</h2>\n'),
        ("# a\n# a\n# a-1", '<h1 id="a">a</h1>\n<h1 id="a-1">a</h1>\n<h1 id="a-1-1">a-1</h1>\n'),
    ],
)
def test_renders(source: str, expected: str) -> None:
    assert render("how-to/page.md", source).body == expected


def test_tables_are_tables() -> None:
    assert "<th>a</th>" in render("t.md", "| a | b |\n|---|---|\n| 1 | 2 |\n").body


def test_the_first_heading_is_the_title() -> None:
    assert render("t.md", "text\n\n# One *two*\n\n# Three").title == "One two"


async def test_each_page_of_the_slow_site_is_late_and_nothing_else(
    docs: Path, autojump_clock: MockClock
) -> None:
    client = site_app(1.5, docs).test_client()
    seen = {}
    for path in ("/", "/how-to/stop.html", "/style.css", "/how-to/a.svg", "/none.html", "/how-to"):
        began = trio.current_time()
        answer = await client.get(path)
        late = round(trio.current_time() - began, 3)
        seen[path] = (answer.status_code, answer.mimetype, late)

    assert seen == {
        "/": (200, "text/html", 1.5),
        "/how-to/stop.html": (200, "text/html", 1.5),
        "/style.css": (200, "text/css", 0),
        "/how-to/a.svg": (200, "image/svg+xml", 0),
        "/none.html": (404, "text/html", 0),
        "/how-to": (404, "text/html", 0),
    }


def test_our_own_documentation_is_a_website() -> None:
    files = build_site(docs_folder()).files
    pages = {path: html for path, html in files.items() if path.endswith(".html")}

    assert "index.html" in pages
    for path, html in pages.items():
        targets = {
            urlsplit(urljoin(f"http://site/{path}", href)).path[1:]
            for _, href in links(html, "nav a")
        }
        assert targets == set(pages)


@pytest.mark.slow
def test_writes_the_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(tmp_path / "build" / "docs")])

    broken = capsys.readouterr().err.splitlines()
    assert code == (1 if broken else 0)
    written = {
        path.relative_to(tmp_path / "build" / "docs").as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert written == build_site(docs_folder()).files


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_says_how_it_is_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "usage: python -m api.site FOLDER\n"


def test_an_installed_package_has_its_documentation_inside(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder `docs` beside an installed package would be somebody else's.
    inside = tmp_path / "api" / "docs"
    inside.mkdir(parents=True)
    (inside / "index.md").write_text("# Quiesce")
    monkeypatch.setattr(site_module, "_HERE", tmp_path / "api")
    assert docs_folder() == inside

    (inside / "index.md").unlink()
    (docs / "index.md").unlink()
    with pytest.raises(NoDocumentation, match="there is no documentation"):
        docs_folder()
