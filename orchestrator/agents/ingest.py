"""The built-in agent that takes in documents, so that they can be searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from orchestrator.agent import agent
from orchestrator.agents._ingest.book import Book
from orchestrator.agents._ingest.kinds import Unreadable
from orchestrator.agents._ingest.reading import open_document

if TYPE_CHECKING:
    from orchestrator.worker.face import SyncContext

MEMORY_MIB = 1_024
CPU_S = 600

Names = Annotated[list[str], Field(min_length=1, max_length=100)]
Title = Annotated[str, Field(min_length=1, max_length=300)]


class IngestFailed(RuntimeError):
    """Nothing could be read of any document."""


@agent(name="ingest", memory_mib=MEMORY_MIB, cpu_s=CPU_S)
def ingest(
    ctx: SyncContext,
    files: Names | None = None,
    titles: dict[str, Title] | None = None,
) -> dict[str, Any]:
    """Take in documents that the run was started with: PDF, HTML, Markdown and text.

    Each is taken apart into chunks of at most 1,200 characters, which become JSON lines of the
    artifact `chunks.jsonl`: `{"source", "title", "page", "start", "end", "text"}`, where `start`
    and `end` are counted in characters of the document's text. The result, and the partial result
    meanwhile, says how much there is: `{"documents": [{"name", "title", "kind", "chunks",
    "complete", "error"?}], "known", "done", "chunks"}`. A stop keeps what is there. A document
    that cannot be read has an `error`; the run fails only if nothing could be read of any.

    It works in a process of its own, of at most 1 GiB and 10 minutes of processor time, so a file
    that was made to do harm harms nobody else.

    - `files`: the names of the files to take in; all that the run was started with if left out.
    - `titles`: what files are called, by their names; what they say themselves if left out.
    """
    names = files if files is not None else list(ctx.files)
    if not names:
        raise IngestFailed("there is nothing to read: start the run with files")
    book = Book(ctx, len(names))
    for name in names:
        _take_in(ctx, book, name, (titles or {}).get(name, ""))
    if not book.result["chunks"]:
        errors = [f"{each['name']} {each['error']}" for each in book.result["documents"]]
        raise IngestFailed("; ".join(errors))
    ctx.progress(100, f"{book.result['chunks']} chunks")
    return book.result


def _take_in(ctx: SyncContext, book: Book, name: str, title: str) -> None:
    book.begin(name)
    try:
        document = open_document(name, ctx.file(name))
        book.know(document, title or document.title or name)
        for batch in document.batches:
            book.keep(batch)
    except Unreadable as error:
        book.finish(str(error))
    else:
        book.finish()
