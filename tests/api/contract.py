"""Every answer that an application gives, held against the document that describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from quart import has_request_context, json, request

from api.openapi.document import document
from api.openapi.operations import OPERATIONS
from api.schema import Order, RunsFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from quart import Response
    from quart_trio import QuartTrio

# Orders within orders.
INNER = {RunsFilter}


def closed(schema: Any) -> Any:
    """Return the schema so that it takes no member that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(each) for name, each in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


class Described:
    """The document of an application, ready to hold answers against it."""

    def __init__(self, app: QuartTrio) -> None:
        found = document(app)
        self.paths = found["paths"]
        self._schemas = closed(found["components"]["schemas"])
        # A problem may have members of its own.
        self._schemas["Problem"].pop("additionalProperties")
        self._validators: dict[str, Draft202012Validator] = {}

    def faults(self, schema: Mapping[str, Any], body: bytes | str) -> Iterator[str]:
        """Yield what does not fit in a JSON body."""
        key = json.dumps(schema)
        if key not in self._validators:
            root = {**schema, "components": {"schemas": self._schemas}}
            self._validators[key] = Draft202012Validator(root)
        for error in self._validators[key].iter_errors(json.loads(body)):
            yield f"{error.json_path} {error.message:.300}"


_DESCRIBED: dict[frozenset[str], Described] = {}


def described(app: QuartTrio) -> Described:
    """Return the document of an application; those with the same routes share it."""
    rules = frozenset(f"{rule.methods} {rule.rule}" for rule in app.url_map.iter_rules())
    if rules not in _DESCRIBED:
        _DESCRIBED[rules] = Described(app)
    return _DESCRIBED[rules]


class Contract:
    """What was answered otherwise than documented, and what was parsed otherwise.

    Attributes:
        broken: one line for each answer that does not fit.
    """

    def __init__(self) -> None:
        self.broken: list[str] = []

    def watch(self, app: QuartTrio) -> None:
        """Hold every answer of an application against its document."""

        async def hold(response: Response) -> Response:
            if request.url_rule is not None and request.method != "OPTIONS":
                faults = [each async for each in _faults(described(app), response)]
                where = f"{request.method} {request.url_rule.rule} {response.status_code}"
                self.broken += [f"{where}: {each}" for each in faults]
            return response

        app.after_request(hold)

    def note_parsed(self, order: type[Order]) -> None:
        """Hold what a call parses against what it is said to take."""
        if not has_request_context() or request.url_rule is None:
            return
        operation = OPERATIONS.get(f"{request.method} {request.url_rule.rule}")
        if operation and order not in {operation.query, operation.body} | INNER:
            self.broken.append(f"{request.method} {request.path} parses {order.__name__}")


async def _faults(found: Described, response: Response) -> AsyncIterator[str]:
    """Yield what is otherwise than documented in the answer to the request that is handled."""
    assert request.url_rule is not None
    path = request.url_rule.rule.replace("<", "{").replace(">", "}")
    answers = found.paths[path][request.method.replace("HEAD", "GET").lower()]["responses"]
    answer = answers.get(str(response.status_code))
    if answer is None:
        yield "is not documented"
        return
    for name in answer.get("headers", {}):
        if name not in response.headers:
            yield f"has no {name}"
    content = answer.get("content", {})
    media_type = response.mimetype
    if not content:
        if await response.get_data():
            yield "has a body"
    elif media_type not in content:
        if "*/*" not in content:
            yield f"is {media_type}, and not of {list(content)}"
    elif media_type is not None and media_type.endswith("json"):
        for fault in found.faults(content[media_type]["schema"], await response.get_data()):
            yield fault
