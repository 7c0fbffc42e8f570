"""The agent that takes in documents: what becomes of each kind, of bad ones, and in a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import InvalidInput, RunStatus
from orchestrator.agents._ingest.kinds import Kind, Unreadable
from orchestrator.agents._ingest.reading import Chunk, open_document
from orchestrator.agents.ingest import ingest
from tests.orchestrator.agents.documents import (
    BOUND_S,
    begun,
    chunks,
    encrypted,
    packed,
    pdf,
    taken_in,
)

if TYPE_CHECKING:
    from orchestrator import Orchestrator

MARKDOWN = b"intro\n\n# Trio\n\nNurseries.\n\n> # not a heading\n\n## Stops\r\n\nCancel scopes.\n"
HTML = b"<!doctype html><title>Stops</title><script>no</script><p>Press it.<p>It ends."


def read(name: str, data: bytes) -> list[Chunk]:
    return [chunk for batch in open_document(name, data).batches for chunk in batch.chunks]


def why_not(name: str, data: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        read(name, data)
    return str(caught.value)


def test_a_pdf_is_read_page_by_page() -> None:
    document = open_document("a.bin", pdf("first page", "", "third", title="On Stops"))
    assert (document.kind, document.title) == (Kind.PDF, "On Stops")
    batches = list(document.batches)
    assert [batch.share for batch in batches] == [1 / 3, 2 / 3, 1]
    assert [chunk for batch in batches for chunk in batch.chunks] == [
        Chunk("", "first page", 0, 10, page=1),
        Chunk("", "third", 12, 17, page=3),
    ]


def test_markdown_is_parted_at_its_headings() -> None:
    document = open_document("a.md", MARKDOWN)
    assert (document.kind, document.title) == (Kind.MARKDOWN, "Trio")
    text = MARKDOWN.decode().replace("\r\n", "\n")
    found = read("a.md", MARKDOWN)
    assert [(chunk.title, chunk.text) for chunk in found] == [
        ("", "intro"),
        ("Trio", "# Trio\n\nNurseries.\n\n> # not a heading"),
        ("Stops", "## Stops\n\nCancel scopes."),
    ]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in found)


def test_a_title_has_a_bound_since_each_chunk_has_it_once_more() -> None:
    heading = "word " * 1_000
    for text in (f"# {heading}\n\nText.", f"first {heading}\nsecond\n===\n\nText."):
        document = open_document("a.md", text.encode())
        [batch] = document.batches
        assert {chunk.title for chunk in batch.chunks} == {document.title}
        assert len(document.title) == 300
        assert "\n" not in document.title
    assert open_document("a.pdf", pdf("text", title=heading)).title == heading[:300]


@pytest.mark.parametrize("title", [b"5", b"[(a)]", b"99 0 R", b"<< >>", b"true"])
def test_a_pdf_whose_title_is_none_is_read(title: bytes) -> None:
    document = open_document("a.pdf", pdf("text", title="X").replace(b"(X)", title))
    assert document.title == ""
    assert [chunk.text for batch in document.batches for chunk in batch.chunks] == ["text"]


def test_html_is_read_as_a_reader_sees_it() -> None:
    document = open_document("whatever.txt", HTML)
    assert (document.kind, document.title) == (Kind.HTML, "Stops")
    assert read("whatever.txt", HTML) == [Chunk("", "Press it.\nIt ends.", 0, 18)]


def test_text_is_parted_where_it_ends_best() -> None:
    paragraph = "A sentence of some words. " * 40
    text = f"{paragraph}\n\n{paragraph}\n\nend"
    found = read("a", text.encode())
    assert [chunk.text for chunk in found] == [paragraph.strip(), f"{paragraph.strip()} \n\nend"]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in found)


@pytest.mark.parametrize("length", [1, 1_199, 1_200, 1_201, 5_000])
def test_text_without_any_place_to_end_is_parted_all_the_same(length: int) -> None:
    found = read("a.txt", b"x" * length)
    assert "".join(chunk.text for chunk in found) == "x" * length
    assert max(len(chunk.text) for chunk in found) <= 1_200


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_may_be_in_any_unicode(encoding: str) -> None:
    assert [chunk.text for chunk in read("a.txt", "Grüße".encode(encoding))] == ["Grüße"]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.pdf", b"", "is empty"),
        ("a.txt", b" \n\t", "is empty"),
        ("a.html", b"<html><script>x</script>", "has no text"),
        ("a.md", b"\xef\xbb\xbf\n\n", "has no text"),
        ("a.txt", b"\x7fELF\0\0\0", "is neither PDF, HTML, Markdown nor text"),
        ("a.txt", b"text " * 500 + b"\0", "is neither PDF, HTML, Markdown nor text"),
        ("a.txt", "Grüße".encode("latin-1"), "is not UTF-8 text (byte 2); save it as UTF-8"),
        ("a.md", b"\xff\xfea", "is not UTF-16 text (byte 2); save it as UTF-8"),
        ("a.pdf", b"%PDF-1.4\nbroken", "is a broken PDF: "),
        ("a.pdf", pdf("one")[:200], "is a broken PDF: "),
        ("a.pdf", pdf(""), "has no text; what was scanned has to be recognised first"),
        ("a.pdf", encrypted(pdf("one"), "s3cret"), "is encrypted; save it without a password"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(name: str, data: bytes, why: str) -> None:
    assert why_not(name, data).startswith(why)


def test_a_pdf_that_needs_no_password_to_be_read_is_read() -> None:
    assert [chunk.text for chunk in read("a.pdf", encrypted(pdf("open"), ""))] == ["open"]


def test_a_page_that_unpacks_to_far_more_than_a_page_is_refused() -> None:
    bomb = packed([b" " * (80 * 1024 * 1024)])
    assert len(bomb) < 100_000
    assert why_not("a.pdf", bomb).startswith("unpacks to more than is allowed: page 1: ")


@pytest.mark.slow
async def test_files_become_chunks_with_titles_and_places(orchestrator: Orchestrator) -> None:
    files = {"book.pdf": pdf("once", "upon"), "notes.md": MARKDOWN, "bad.pdf": b"%PDF-1.4"}
    record, found = await taken_in(orchestrator, files, titles={"book.pdf": "The Book (1).pdf"})
    assert record.status is RunStatus.SUCCEEDED, record.error
    book, notes, bad = record.result["documents"]
    assert record.result | {"documents": []} == {
        "documents": [],
        "known": 3,
        "done": 3,
        "chunks": 5,
    }
    assert book == {
        "name": "book.pdf",
        "title": "The Book (1).pdf",
        "kind": "PDF",
        "chunks": 2,
        "complete": True,
    }
    assert (notes["title"], notes["chunks"], notes["complete"]) == ("Trio", 3, True)
    assert (bad["chunks"], bad["complete"]) == (0, False)
    assert bad["error"].startswith("is a broken PDF")
    assert found[1] == {
        "source": "book.pdf",
        "title": "The Book (1).pdf",
        "page": 2,
        "start": 5,
        "end": 9,
        "text": "upon",
    }
    assert [each["title"] for each in found[2:]] == ["Trio", "Trio", "Stops"]
    assert await orchestrator.partial(record.id) == record.result
    assert record.progress.percent == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "input", "message"),
    [
        ({}, {}, "there is nothing to read: start the run with files"),
        ({"a.pdf": b"", "b": b"\0"}, {}, "a.pdf is empty; b is neither PDF, HTML, Markdown nor"),
        ({"a.md": b"# a"}, {"files": ["b.md"]}, "name: the run has no file 'b.md'"),
    ],
)
async def test_a_run_of_which_nothing_can_be_read_fails_and_says_why(
    orchestrator: Orchestrator, files: dict[str, bytes], input: dict[str, Any], message: str
) -> None:
    record, found = await taken_in(orchestrator, files, **input)
    assert (record.status, found) == (RunStatus.FAILED, [])
    assert record.error is not None
    assert message in record.error.message


@pytest.mark.slow
async def test_a_stop_keeps_what_was_stored_and_says_how_much(orchestrator: Orchestrator) -> None:
    """In the middle of a long PDF, whose pages are read one by one."""
    page = b"".join(b"BT /F 9 Tf 50 %d Td (line %d) Tj ET\n" % (n, n) for n in range(300))
    long = packed([page] * 500)
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, {"long.pdf": long})
        async for event in await orchestrator.events(run.id):
            if event.type == "run.artifact" and event.data["name"] == "chunks.jsonl":
                break
        receipt = await run.stop(reason="enough")
    assert (receipt.outcome.value, receipt.reached.value) == ("stopped", "graceful")
    assert receipt.processes_killed == 0
    told: Any = await orchestrator.partial(run.id)
    (document,) = told["documents"]
    assert 0 < document["chunks"] == told["chunks"] == len(await chunks(orchestrator, run.id))
    assert (document["complete"], told["done"], told["known"]) == (False, 0, 1)
    assert 0 < run.record.progress.percent < 99
    assert run.record.status is RunStatus.STOPPED


def test_it_never_runs_in_the_event_loop() -> None:
    with pytest.raises(InvalidInput, match="isolation: must be 'process'"):
        ingest.parse_options({"isolation": "task"})


@pytest.mark.slow
async def test_one_page_that_takes_for_ever_is_interrupted(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, {"a.pdf": packed([b"q Q\n" * 450_000] * 50)})
        async for event in await orchestrator.events(run.id):
            if event.type == "run.progress":
                break
        receipt = await run.stop()
    assert (run.record.status, receipt.processes_killed) == (RunStatus.STOPPED, 0)
