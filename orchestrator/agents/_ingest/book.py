"""What was taken in of each document so far."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.agents._ingest.reading import Batch, Document
    from orchestrator.worker.face import SyncContext

ARTIFACT = "chunks.jsonl"
# The longest that a stop waits until a batch is kept whole.
KEEP_S = 10.0


class Book:
    """The documents of one run: their chunks as an artifact, how many as its partial result.

    Attributes:
        result: ``{"documents": [{"name", "title", "kind", "chunks", "complete", "error"?}],
            "known", "done", "chunks"}``.
    """

    def __init__(self, ctx: SyncContext, known: int) -> None:
        self._ctx = ctx
        self._documents: list[dict[str, Any]] = []
        self.result: dict[str, Any] = {
            "documents": self._documents,
            "known": known,
            "done": 0,
            "chunks": 0,
        }

    def begin(self, name: str) -> None:
        """Begin with a document."""
        blank = {"name": name, "title": name, "kind": None, "chunks": 0, "complete": False}
        self._documents.append(blank)
        self._tell(0)

    def know(self, document: Document, title: str) -> None:
        """Say what the document at hand is.

        Args:
            title: what it is called by whoever sent it.
        """
        self._documents[-1].update(title=title, kind=document.kind.value)

    def keep(self, batch: Batch) -> None:
        """Keep some of the document at hand: all of it, and counted, or nothing."""
        about = self._documents[-1]
        lines = b"".join(
            json.dumps(
                {
                    "source": about["name"],
                    "title": chunk.title or about["title"],
                    "page": chunk.page,
                    "start": chunk.start,
                    "end": chunk.end,
                    "text": chunk.text,
                },
                ensure_ascii=False,
            ).encode("utf-8", "replace")
            + b"\n"
            for chunk in batch.chunks
        )
        with self._ctx.critical("keep", KEEP_S):
            if lines:
                # The first ones take the place of what was kept before a crash.
                more, kind = self.result["chunks"] > 0, "application/x-ndjson"
                self._ctx.artifact(ARTIFACT, lines, append=more, media_type=kind)
            about["chunks"] += len(batch.chunks)
            self.result["chunks"] += len(batch.chunks)
            self._tell(batch.share)

    def finish(self, error: str = "") -> None:
        """The document at hand is read, or cannot be read any further."""
        about = self._documents[-1]
        about.update({"error": error} if error else {"complete": True})
        self.result["done"] += 1
        self._tell(0)

    def _tell(self, share: float) -> None:
        done, known = self.result["done"], self.result["known"]
        self._ctx.partial(self.result)
        message = (
            f"{done} of {known}: {self._documents[-1]['title']}, {self.result['chunks']} chunks"
        )
        self._ctx.progress(min(99.0, 100 * (done + share) / known), message)
