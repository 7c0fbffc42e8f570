"""The pages of a PDF. It is read in pure Python, so slowly: never call it in the event loop."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

from orchestrator.agents._ingest.kinds import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

# It tells of every oddity of every file.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


class Pdf:
    """An open PDF.

    Raises:
        Unreadable: it is broken, or encrypted.
    """

    def __init__(self, data: bytes) -> None:
        with _explained():
            self._reader = PdfReader(BytesIO(data))
            if self._reader.is_encrypted and not self._reader.decrypt(""):
                raise FileNotDecryptedError
            self.page_count = len(self._reader.pages)

    @property
    def title(self) -> str:
        """What it says that it is called; empty if it does not say."""
        with _explained():
            about = self._reader.metadata
            title = about.title if about is not None else None
        # A broken file may have anything there.
        return title if isinstance(title, str) else ""

    def text(self, page: int) -> str:
        """Return the text of a page, 0 for the first.

        Raises:
            Unreadable: it is broken, or unpacks to far more than a page can be.
        """
        with _explained(f"page {page + 1}: "):
            # What is no half of a pair cannot be encoded.
            text = self._reader.pages[page].extract_text()
            return text.encode("utf-8", "replace").decode()


@contextmanager
def _explained(where: str = "") -> Iterator[None]:
    try:
        yield
    except (FileNotDecryptedError, DependencyError):
        raise Unreadable("is encrypted; save it without a password") from None
    except LimitReachedError as error:
        raise Unreadable(f"unpacks to more than is allowed: {where}{error}") from None
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes it raise anything
        said = str(error) or type(error).__name__
        raise Unreadable(f"is a broken PDF: {where}{said}") from None
