"""A whole playbook, checked before anything of it is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field

from orchestrator.agents._playbook.document import Document, PlaybookInvalid, read_document
from orchestrator.agents._playbook.model import Input, Playbook, Step
from orchestrator.agents._playbook.parameters import ALL, INNER, Headers, check, faults_in
from orchestrator.agents._playbook.templates import (
    Template,
    TemplateInvalid,
    compile_template,
    is_template,
)
from orchestrator.errors import InvalidInput
from orchestrator.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.agents._playbook.document import Path
    from orchestrator.catalog import Catalog

MAX_STEPS = 1_000
# The names of durable steps are the way to a step, and have at most 200 characters.
MAX_NESTING = 4

Id = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,29}$")]

_AnyShape = TypeVar("_AnyShape", bound="_Shape")


class _Shape(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError(f"must be a mapping; known are: {', '.join(cls.model_fields)}")
        return given


class _Session(_Shape):
    base_url: str = ""
    headers: Headers = {}


class _Whole(_Shape):
    name: str = Field(min_length=1, max_length=200)
    description: str = ""
    inputs: dict[Id, dict[str, Any] | None] = {}
    session: _Session = _Session()
    steps: Annotated[list[Any], Field(min_length=1)]
    outputs: dict[Id, Any] = {}


class _Step(_Shape):
    id: Id
    type: str
    name: str = Field("", max_length=200)
    parameters: dict[str, Any] = {}
    on_error: Literal["fail", "continue"] = "fail"


def read_playbook(text: str, catalog: Catalog | None = None) -> Playbook:
    """Read a playbook and check the whole of it.

    Args:
        catalog: the agents that it may call; None to leave these unchecked.

    Raises:
        PlaybookInvalid: names each line with what is wrong there.
    """
    reading = _Reading(read_document(text), catalog)
    playbook = reading.playbook()
    if playbook is None or reading.problems:
        raise PlaybookInvalid(reading.problems)
    return playbook


@lru_cache(maxsize=64)
def known_playbook(text: str) -> Playbook:
    """Return a playbook that was checked before, with the agents that it may call."""
    return read_playbook(text)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a template can read where it stands."""

    inputs: frozenset[str]
    steps: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset({"inputs", "steps"})

    def after(self, *steps: str) -> _Sight:
        """The same, once those steps are done."""
        return replace(self, steps=self.steps.union(steps))

    def each(self) -> _Sight:
        """The same, for one of many items."""
        return replace(self, roots=self.roots | {"item", "index"})

    def problems(self, template: Template) -> Iterator[str]:
        """Yield what a template reads that will not be there."""
        for root, member in sorted(template.names, key=str):
            if root not in self.roots:
                known = ", ".join(sorted(self.roots))
                yield f"there is no {root!r} here; there are: {known}"
            elif root == "steps" and member is not None and member not in self.steps:
                yield f"no step {member!r} is done before this one"
            elif root == "inputs" and member is not None and member not in self.inputs:
                yield f"no input is named {member!r}"


class _Reading:
    """One reading of a document, which collects what is wrong.

    Attributes:
        problems: lines and what is wrong there.
    """

    def __init__(self, document: Document, catalog: Catalog | None) -> None:
        self.problems: list[tuple[int, str]] = []
        self._document = document
        self._catalog = catalog
        self._places: dict[str, Path] = {}

    def playbook(self) -> Playbook | None:
        """Return the playbook; None, or with gaps, if there are problems."""
        whole = self._shaped(_Whole, ())
        if whole is None:
            return None
        inputs = {name: self._input(name, spec) for name, spec in whole.inputs.items()}
        sight = _Sight(frozenset(inputs))
        session = self._compiled(("session",), whole.session.model_dump(), sight)
        steps = self._steps(("steps",), sight, 0)
        done = sight.after(*map(_id_of, whole.steps))
        outputs = self._compiled(("outputs",), whole.outputs, done)
        if len(self._places) > MAX_STEPS:
            self._note(("steps",), f"has more than {MAX_STEPS} steps")
        return Playbook(whole.name, inputs, session, steps, outputs)

    def _input(self, name: str, spec: dict[str, Any] | None) -> Input:
        spec = dict(spec or {})
        required, default = "default" not in spec, spec.pop("default", None)
        shape = Shape()
        try:
            shape = Shape(spec)
            if not required:
                shape.read(default, "default")
        except InvalidInput as error:
            for field_, why in error.problems:
                self._note(("inputs", name, *field_.split(".")), why)
        return Input(shape, required, default)

    def _steps(self, path: Path, sight: _Sight, nesting: int) -> tuple[Step, ...]:
        steps: list[Step] = []
        for number, given in enumerate(self._document.at(path)):
            step = self._step((*path, number), sight, nesting)
            if step is not None:
                steps.append(step)
            sight = sight.after(_id_of(given))
        return tuple(steps)

    def _step(self, path: Path, sight: _Sight, nesting: int) -> Step | None:
        shaped = self._shaped(_Step, path)
        if shaped is None or not self._is_new(shaped.id, path):
            return None
        if shaped.type not in ALL:
            self._note((*path, "type"), f"{shaped.type!r} is none of: {', '.join(ALL)}")
            return None
        if nesting > MAX_NESTING:
            self._note(path, f"is nested more than {MAX_NESTING} deep")
            return None
        inside = (*path, "parameters")
        blocks = INNER.get(shaped.type, {})
        own = {n: v for n, v in shaped.parameters.items() if n not in blocks}
        for at, why in check(shaped.type, own, self._catalog):
            self._note((*inside, *at), why)
        within = sight.each() if shaped.type == "foreach" else sight
        inner: dict[str, tuple[Step, ...]] = {}
        for name, required in blocks.items():
            if required or name in shaped.parameters:
                inner |= self._block((*inside, name), within, nesting + 1)
        return Step(
            id=shaped.id,
            type=shaped.type,
            line=self._document.lines[path],
            name=shaped.name,
            on_error=shaped.on_error,
            parameters=self._compiled(inside, own, sight),
            inner=inner,
        )

    def _block(self, path: Path, sight: _Sight, nesting: int) -> dict[str, tuple[Step, ...]]:
        """Read the steps inside a step, at the parameter at the end of the path."""
        found = self._document.find(path)
        given = self._document.at(path) if found == path else None
        if not isinstance(given, list) or not given:
            self._note(path, "must be a list of at least one item")
            return {}
        if path[-1] != "branches":
            return {str(path[-1]): self._steps(path, sight, nesting)}
        return {
            name: steps
            for number in range(len(given))
            for steps in self._block((*path, number), sight, nesting).values()
            for name in [str(number)]
        }

    def _compiled(self, path: Path, value: Any, sight: _Sight) -> Any:
        """Return a value with its templates compiled, and note what is wrong with them."""
        match value:
            case dict():
                return {n: self._compiled((*path, n), each, sight) for n, each in value.items()}
            case list():
                return [self._compiled((*path, n), each, sight) for n, each in enumerate(value)]
            case str() if is_template(value):
                return self._template(path, value, sight)
            case _:
                return value

    def _template(self, path: Path, text: str, sight: _Sight) -> Template | str:
        try:
            template = compile_template(text)
        except TemplateInvalid as error:
            self._note(path, str(error))
            return text
        for why in sight.problems(template):
            self._note(path, why)
        return template

    def _is_new(self, name: str, path: Path) -> bool:
        before = self._places.setdefault(name, path)
        if before != path:
            line = self._document.lines[before]
            self._note((*path, "id"), f"another step has the id {name!r}, on line {line}")
        return before == path

    def _shaped(self, shape: type[_AnyShape], path: Path) -> _AnyShape | None:
        try:
            return shape.model_validate(self._document.at(path))
        except pydantic.ValidationError as error:
            for at, why in faults_in(shape, error):
                self._note((*path, *at), why)
            return None

    def _note(self, location: Sequence[str | int], why: str) -> None:
        line = self._document.lines[self._document.find(location)]
        where = ".".join(map(str, location))
        self.problems.append((line, f"{where}: {why}" if where else why))


def _id_of(step: Any) -> str:
    """Return the id of a step as it is written: what reads a wrong step is not wrong as well."""
    return str(step.get("id")) if isinstance(step, dict) else ""
