"""Requests with files: the body of ``multipart/form-data``."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.formparser import MultiPartParser

from api.calls import decode_json
from orchestrator import File, InvalidInput

if TYPE_CHECKING:
    from werkzeug.datastructures import FileStorage, MultiDict

# The order included.
MAX_PARTS = 100
UNKNOWN_KIND = "application/octet-stream"


def read_form(body: bytes, boundary: str) -> tuple[MultiDict[str, str], list[File]]:
    """Return the fields of a form, and the files that come with them.

    Raises:
        InvalidInput: it is no such form.
    """
    parser = MultiPartParser(max_form_parts=MAX_PARTS, stream_factory=lambda *_, **__: BytesIO())
    try:
        fields, files = parser.parse(BytesIO(body), boundary.encode(), len(body))
    except (ValueError, HTTPException) as error:
        why = f"is no form of at most {MAX_PARTS} parts: {error}"
        raise InvalidInput([("body", why)]) from None
    return fields, [_file(each) for name in files for each in files.getlist(name)]


def order_in(fields: MultiDict[str, str]) -> Any:
    """Return the order of a start, as JSON.

    Raises:
        InvalidInput: it is not the one field that there is, or no JSON.
    """
    unknown = [(name, "is not known; known is: order") for name in fields if name != "order"]
    if unknown:
        raise InvalidInput(unknown)
    given = fields.getlist("order")
    if len(given) != 1:
        raise InvalidInput([("order", "must be given once: the JSON of a start without files")])
    try:
        return decode_json(given[0].encode())
    except (ValueError, RecursionError) as error:
        raise InvalidInput([("order", f"is not JSON: {error}")]) from None


def values_in(fields: MultiDict[str, str]) -> dict[str, Any]:
    """Return the fields by their names; one that is given several times is a list."""
    lists = {name: fields.getlist(name) for name in fields}
    return {name: given if len(given) > 1 else given[0] for name, given in lists.items()}


def _file(part: FileStorage) -> File:
    return File(part.filename or "", part.content_type or UNKNOWN_KIND, part.read())
