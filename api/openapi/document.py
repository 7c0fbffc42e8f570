"""The whole interface as an OpenAPI 3.1 document, made for the routes of an application."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from api.auth.rights import CALLS, CALLS_OF_DIALECTS, UNLISTED, Right
from api.auth.sessions import COOKIE
from api.openapi.examples import EXAMPLES, HEADERS
from api.openapi.operations import (
    FOREIGN,
    NOTHING,
    OPERATIONS,
    OPERATIONS_OF_DIALECTS,
    Operation,
)
from api.openapi.refusals import refusals_of
from api.openapi.shapes import (
    REFERENCE,
    TEXT,
    Generator,
    Schema,
    all_shapes,
    explained,
    ref,
)
from api.schema import StartOrder
from orchestrator import options_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from quart_trio import QuartTrio
    from werkzeug.routing import Rule

    from api.schema import Order

JSON = "application/json"
PROBLEM = "application/problem+json"
FORM = "multipart/form-data"

# What is not grouped by the first word of its path.
_GROUPS = {"": "pages", "dashboard": "pages", "docs": "pages", "api": "dialects"} | dict.fromkeys(
    ("healthz", "readyz", "metrics", "agents", "openapi.json", "halt"), "server"
)


def document(app: QuartTrio) -> dict[str, Any]:
    """Return the document of all calls that the application answers."""
    schemas = all_shapes() | _orders()
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        if rule.websocket:
            paths.setdefault(path, {})["x-websocket"] = _words(view)
            continue
        for method in sorted(set(rule.methods or ()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(method, rule, view)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quiesce",
            "version": version("quiesce"),
            "description": "Runs that can be watched, and stopped for certain.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _orders() -> dict[str, Schema]:
    """Return the schemas of all bodies, as they are parsed."""
    found: dict[str, Schema] = {}
    for order in (each.body for each in OPERATIONS.values()):
        if order is not None:
            schema = _schema_of(order)
            found |= schema.pop("$defs", {})
            found[order.__name__] = explained(schema)
    found[StartOrder.__name__]["properties"]["options"] = ref("Options")
    return found | {"Options": options_schema() | {"description": "What a starter may choose."}}


def _schema_of(order: type[Order]) -> Schema:
    return order.model_json_schema(ref_template=REFERENCE, schema_generator=Generator)


def _operation(method: str, rule: Rule, view: Callable[..., Any]) -> dict[str, Any]:
    name = f"{method} {rule.rule}"
    right = (CALLS.get(name) or CALLS_OF_DIALECTS.get(name, UNLISTED)).right
    operation = OPERATIONS.get(name) or OPERATIONS_OF_DIALECTS.get(name, FOREIGN)
    group = rule.rule.split("/")[1]
    body = {} if operation.body is None else {"requestBody": _body(name, operation)}
    return {
        "operationId": f"{rule.endpoint}".replace(".", "_"),
        "summary": _words(view).partition(". ")[0].removesuffix("."),
        "description": f"{_words(view)} Needed: {right.value}.",
        "tags": [_GROUPS.get(group, group)],
        "parameters": list(_parameters(rule, operation)),
        **body,
        "responses": dict(_responses(name, right, operation)),
        "security": [] if right is Right.OPEN else [{"token": []}, {"session": []}],
    }


def _words(view: Callable[..., Any]) -> str:
    """Return the first paragraph of what the call says of itself."""
    return " ".join((inspect.getdoc(view) or "").partition("\n\n")[0].split()).replace("``", "`")


def _parameters(rule: Rule, operation: Operation) -> Iterator[dict[str, Any]]:
    for name in sorted(rule.arguments):
        schema = TEXT | {"minLength": 1, "pattern": "^[^/]+$"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if operation.query is not None:
        yield from _query(operation.query)
    for name in operation.headers:
        yield {"name": name, "in": "header", "required": False, "schema": HEADERS[name]}


def _query(order: type[Order]) -> Iterator[dict[str, Any]]:
    for name, schema in _schema_of(order)["properties"].items():
        # Nothing in a query is null: it is left out.
        given = [each for each in schema.pop("anyOf", []) if each != {"type": "null"}]
        schema |= given[0] if given else {}
        if schema.get("default", "") is None:
            del schema["default"]
        yield {"name": name, "in": "query", "required": False, "schema": schema}


def _body(name: str, operation: Operation) -> dict[str, Any]:
    assert operation.body is not None
    schema = ref(operation.body.__name__)
    content = {JSON: {"schema": schema, "examples": _examples(EXAMPLES[operation.body])}}
    if name == "POST /runs":
        form = {"type": "object", "properties": {"order": schema}, "required": ["order"]}
        content[FORM] = {"schema": form, "encoding": {"order": {"contentType": JSON}}}
    return {"required": not operation.optional, "content": content}


def _examples(given: Iterable[Any]) -> dict[str, Any]:
    return {str(number): {"value": each} for number, each in enumerate(given, 1)}


def _responses(name: str, right: Right, operation: Operation) -> Iterator[tuple[str, Any]]:
    refused = refusals_of(name, right, operation)
    for status in sorted({*operation.gives, *refused}):
        content = dict(map(_content, filter(None, operation.gives.get(status, ()))))
        words = "It is as asked." if status in operation.gives else ""
        if status in refused:
            content[PROBLEM] = {"schema": _problem(refused[status])}
            words = f"{words} A problem: {', '.join(refused[status])}.".strip()
        response: dict[str, Any] = {"description": words}
        if content:
            response["content"] = content
        if headers := _headers(status, operation):
            response["headers"] = {each: {"schema": HEADERS[each]} for each in headers}
        yield str(status), response


def _content(what: str) -> tuple[str, Any]:
    if what == NOTHING or "/" in what:
        return what, {"schema": TEXT if what != "*/*" else {}}
    return JSON, {"schema": ref(what)}


def _problem(kinds: list[str]) -> Schema:
    types = [f"urn:quiesce:{kind}" for kind in kinds]
    return {"allOf": [ref("Problem"), {"properties": {"type": {"enum": types}}}]}


def _headers(status: int, operation: Operation) -> list[str]:
    """Return the headers that an answer of that status has for its reader."""
    if status == 201:
        return ["Location"]
    if status in (200, 304) and "If-None-Match" in operation.headers:
        return ["ETag"]
    if status in (429, 503) and status not in operation.gives:
        return ["Retry-After"]
    return ["WWW-Authenticate"] if status == 401 else []
