"""Requests with files: the body of ``multipart/form-data``."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.formparser import MultiPartParser

from api.calls import decode_json
from orchestrator import File, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from werkzeug.datastructures import FileStorage, MultiDict

# The order included.
MAX_PARTS = 100
UNKNOWN_KIND = "application/octet-stream"


def read_form(body: bytes, boundary: str) -> tuple[MultiDict[str, str], list[tuple[str, File]]]:
    """Return the fields of a form, and the files that come with them, each with its field.

    Raises:
        InvalidInput: it is no such form.
    """
    parser = MultiPartParser(max_form_parts=MAX_PARTS, stream_factory=lambda *_, **__: BytesIO())
    try:
        fields, files = parser.parse(BytesIO(body), boundary.encode(), len(body))
    except HTTPException:
        raise InvalidInput([("body", f"has more than {MAX_PARTS} parts")]) from None
    except ValueError:
        why = f"is no multipart/form-data with the boundary {boundary!r}, as `Content-Type` says"
        raise InvalidInput([("body", why)]) from None
    return fields, [(name, _file(each)) for name in files for each in files.getlist(name)]


def by_their_fields(error: InvalidInput, fields: Sequence[str]) -> InvalidInput:
    """Return what is wrong with files as what is wrong with the fields of the form.

    Args:
        fields: those that the files came with.
    """

    def there(place: str) -> str:
        return re.sub(r"^files\.(\d+)", lambda found: fields[int(found[1])], place)

    return InvalidInput([(there(place), why) for place, why in error.problems])


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
