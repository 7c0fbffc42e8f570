"""The document as a page: what its template is given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.openapi.shapes import Schema

# What is said of a number or a text, and how.
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


class Row(NamedTuple):
    """One field of a body, or one parameter."""

    name: str
    kind: Markup
    required: bool
    words: Markup


class Answer(NamedTuple):
    """One answer of a call."""

    status: str
    words: str
    kinds: list[Markup]


class Entry(NamedTuple):
    """One call."""

    id: str
    method: str
    path: str
    summary: str
    description: Markup
    parameters: list[Row]
    body: Markup | None
    examples: list[str]
    answers: list[Answer]


class Shape(NamedTuple):
    """What an answer or a body consists of."""

    words: str
    kind: Markup
    rows: list[Row]


class Page(NamedTuple):
    """All calls by their groups, and all shapes by their names."""

    groups: dict[str, list[Entry]]
    shapes: dict[str, Shape]
    sockets: dict[str, str]


def page_of(document: dict[str, Any]) -> Page:
    """Return what there is to show of a document."""
    groups: dict[str, list[Entry]] = {}
    sockets = {}
    for path, item in document["paths"].items():
        if "x-websocket" in item:
            sockets[path] = item["x-websocket"]
        for method, operation in item.items():
            if method == "x-websocket":
                continue
            groups.setdefault(operation["tags"][0], []).append(_entry(method, path, operation))
    schemas = document["components"]["schemas"]
    shapes = {
        name: Shape(shape.get("description", ""), _kind(shape), list(_rows(shape)))
        for name, shape in schemas.items()
    }
    return Page(dict(sorted(groups.items())), shapes, sockets)


def _entry(method: str, path: str, operation: dict[str, Any]) -> Entry:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return Entry(
        operation["operationId"],
        method.upper(),
        path,
        operation["summary"],
        _with_code(operation["description"]),
        [
            Row(each["name"], _kind(each["schema"]), each["required"], _said(each["schema"]))
            for each in operation["parameters"]
        ],
        _kind(content["schema"]) if content else None,
        [json.dumps(each["value"]) for each in content.get("examples", {}).values()],
        list(_answers(operation["responses"])),
    )


def _answers(responses: dict[str, Any]) -> Iterator[Answer]:
    for status, response in responses.items():
        kinds = [
            Markup("<code>{}</code>").format(media_type)
            if not media_type.endswith("json")
            else _kind(each["schema"])
            for media_type, each in response.get("content", {}).items()
            if not media_type.startswith("application/problem")
        ]
        yield Answer(status, response["description"], kinds)


def _rows(shape: Schema) -> Iterator[Row]:
    required = shape.get("required", ())
    for name, schema in shape.get("properties", {}).items():
        yield Row(name, _kind(schema), name in required, _said(schema))


def _with_code(words: str) -> Markup:
    """Show what stands between backticks as code."""
    pieces = [escape(each) for each in words.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(each) if number % 2 else each
        for number, each in enumerate(pieces)
    )


def _said(schema: Schema) -> Markup:
    """Return what is said of a field, its limits and its default."""
    words = [str(schema.get("description", ""))]
    limits = schema | next(iter(schema.get("anyOf", [])), {})
    words += [said.format(limits[name]) for name, said in _LIMITS.items() if name in limits]
    if schema.get("default") is not None:
        words.append(f"{json.dumps(schema['default'])} if left out")
    return _with_code("; ".join(word.removesuffix(".") for word in words if word))


def _kind(schema: Schema) -> Markup:
    """Return what a value is, with a link to its shape."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#shape-{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(map(_kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(", ").join(Markup("<code>{}</code>").format(each) for each in values)
    if schema.get("type") == "array":
        return Markup("list of {}").format(_kind(schema.get("items", {})))
    return escape(schema.get("type", "any JSON"))
