"""The schemas of what answers consist of, taken from the values that they show."""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from api.answers import LARGE_FIELDS, PLAIN_FIELDS
from api.webhooks.message import Delivery
from orchestrator import ArtifactInfo, Halt, RunRecord, Schedule

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
TIME: Schema = TEXT | {"description": "RFC 3339, in UTC."}
NOTHING: Schema = {"type": "null"}
ANYTHING: Schema = {"description": "Any JSON."}
OBJECT: Schema = {"type": "object"}

# Of the record of a run, what is shown as it is.
_AS_IT_IS = (*PLAIN_FIELDS, "options", "error", "progress", "usage", "stop")


class Generator(GenerateJsonSchema):
    """Pydantic's, for values that are always shown whole, and explained by their docstrings."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title would only say the name again."""
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        """A field with a default is shown like any other."""
        return self.mode == "serialization" or super().field_is_required(field, total)


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": REFERENCE.format(model=name)}


def array(of: Schema, **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": of, **more}


def nullable(schema: Schema) -> Schema:
    """Return the schema that takes null too."""
    return {"anyOf": [schema, NOTHING]}


def whole(description: str = "", /, **properties: Schema) -> Schema:
    """Return the schema of an object that always has all of these members."""
    said = {"description": description} if description else {}
    return said | {"type": "object", "properties": properties, "required": list(properties)}


def all_shapes() -> dict[str, Schema]:
    """Return the schemas of everything that is shown, by name."""
    found = _of_values()
    record = found.pop("RunRecord")["properties"]
    question = found.pop("Question")
    found["Question"] = _renamed(question, id="question_id")
    found["Delivery"] = _without(found["Delivery"], "body")
    found["Schedule"] = _without(found["Schedule"], "dealt_until")
    return found | _of_runs(record) | _of_problems() | _VALUES | _PAGES


def _of_values() -> dict[str, Schema]:
    kinds: tuple[Any, ...] = (RunRecord, Halt, Schedule, Delivery, ArtifactInfo)
    adapters = [(kind.__name__, "serialization", TypeAdapter(kind)) for kind in kinds]
    _, found = TypeAdapter.json_schemas(
        adapters,  # type: ignore[arg-type]  # a list of tuples with a literal in them
        ref_template=REFERENCE,
        schema_generator=Generator,
    )
    shapes: dict[str, Schema] = found["$defs"]
    return {name: explained(shape) for name, shape in shapes.items()}


def explained(shape: JsonSchemaValue) -> Schema:
    """Move what a docstring says of single fields to those fields."""
    words, _, listed = shape.get("description", "").partition("Attributes:\n")
    shape["description"] = _flat(words)
    for names, said in re.findall(r"^\s*([\w, ]+): ((?:.|\n(?!\s*[\w, ]+: ))+)", listed, re.M):
        for name in names.split(", "):
            if name in shape.get("properties", {}):
                shape["properties"][name]["description"] = _flat(said)
    return shape


def _flat(words: str) -> str:
    return " ".join(words.split()).replace("``", "`")


def _of_runs(record: dict[str, Schema]) -> dict[str, Schema]:
    run = {name: record[name] for name in _AS_IT_IS} | {
        "waiting_for": nullable(ref("Question")),
        "available_actions": array(TEXT, description="The calls that make sense now."),
        "tags": array(TEXT),
    }
    partial = ANYTHING | {"description": "The latest partial result."}
    listed = whole("A run, as it is listed.", **run)
    listed["required"] = [name for name in run if name not in LARGE_FIELDS]
    result = whole(run_id=TEXT, status_code=NUMBER, run=nullable(ref("ListedRun")))
    result["properties"] |= {"receipt": nullable(ref("Receipt")), "problem": ref("Problem")}
    return {
        "ListedRun": listed,
        "Run": whole("A run.", **run, partial=partial),
        "Tree": whole("A run with its sub-agents.", **run, children=array(ref("Tree"))),
        "Stopped": whole(run=ref("Run"), receipt=nullable(ref("Receipt"))),
        "Result": result | {"description": "What became of one run of many."},
    }


def _of_problems() -> dict[str, Schema]:
    problem = whole(
        "What is wrong (RFC 9457). It may have further members.",
        type=TEXT | {"description": "`urn:quiesce:` and the kind of the problem."},
        title=TEXT,
        status=NUMBER,
        detail=TEXT | {"description": "What is wrong here, and what would be right."},
    )
    told = {"run_id": TEXT, "run_status": ref("RunStatus"), "errors": array(ref("Fault"))}
    problem["properties"] |= told
    fault = whole("A field that does not fit.", field=TEXT, message=TEXT)
    return {"Problem": problem, "Fault": fault}


_VALUES = {
    "Agent": whole(
        "A registered agent.",
        name=TEXT,
        description=TEXT,
        input_schema=OBJECT | {"description": "JSON Schema of its input."},
        isolation=TEXT,
        options=ref("RunOptions"),
    ),
    "Event": whole(
        "One entry of a feed.",
        seq=NUMBER | {"description": "1, 2, 3, … without a gap within a tree."},
        run_id=TEXT,
        root_id=TEXT,
        type=TEXT,
        at=TIME,
        data=OBJECT,
    ),
    "Deed": whole(
        "An entry of the audit.",
        **dict.fromkeys(("id", "at", "action", "principal", "from"), TEXT),
        run_id=nullable(TEXT),
        reason=TEXT,
        result=TEXT | {"description": "`ok`, or the kind of the problem."},
        count=NUMBER | {"description": "Of how many alike it tells, at least."},
    ),
    "Task": whole(
        "A live task of a run.",
        run_id=TEXT,
        agent=TEXT,
        operation=TEXT | {"description": "What it is in; empty if nothing."},
        frames=array(ref("Frame"), description="Innermost last."),
    ),
    "Frame": whole(file=TEXT, line=NUMBER, function=TEXT),
    "Session": whole(principal=TEXT, role=TEXT, authentication={"type": "boolean"}),
    "Challenge": whole(message=TEXT, expires_at=TIME),
    "Health": whole(status={"const": "ok"}),
    "Readiness": whole(
        status={"enum": ["ready", "unready"]}, reasons=array(TEXT), warnings=array(TEXT)
    ),
    "Halting": whole(halt=nullable(ref("Halt")), runs_stopped=NUMBER, results=array(ref("Result"))),
    "Halted": whole(halt=nullable(ref("Halt")), live=NUMBER),
    "Partial": ANYTHING | {"description": "The latest partial result; null for none."},
    "Document": OBJECT | {"description": "OpenAPI 3.1."},
}


def _page(name: str, of: str, following: Schema | None = TEXT) -> Schema:
    """Return the schema of a list, which may go on behind what ``next`` says."""
    more = {} if following is None else {"next": nullable(following)}
    return whole(**{name: array(ref(of))}, **more)


_PAGES = {
    "Agents": _page("agents", "Agent", None),
    "Runs": _page("runs", "ListedRun"),
    "Events": _page("events", "Event", NUMBER),
    "Audit": _page("audit", "Deed"),
    "Tasks": _page("tasks", "Task", None),
    "Artifacts": _page("artifacts", "ArtifactInfo", None),
    "Deliveries": _page("deliveries", "Delivery"),
    "Schedules": _page("schedules", "Schedule", None),
    "Results": _page("results", "Result", None),
}


def _without(shape: Schema, *names: str) -> Schema:
    kept = {name: each for name, each in shape["properties"].items() if name not in names}
    return shape | {"properties": kept, "required": list(kept)}


def _renamed(shape: Schema, **names: str) -> Schema:
    kept = {names.get(name, name): each for name, each in shape["properties"].items()}
    return shape | {"properties": kept, "required": list(kept)}
