"""What each type of step takes, and how that is checked before and when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import pydantic
from pydantic import AfterValidator, Field

from orchestrator.agents._playbook.templates import is_template
from orchestrator.agents.browser import browser
from orchestrator.agents.command import command
from orchestrator.errors import InvalidInput, UnknownAgent
from orchestrator.faults import faults_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.agent import Agent
    from orchestrator.catalog import Catalog
    from orchestrator.model import Json

    # Where in a value what is wrong.
    Faults = list[tuple[tuple[str | int, ...], str]]

MAX_BODY = 10 * 2**20


def _printable(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return text


Header = Annotated[str, AfterValidator(_printable)]
Headers = dict[Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")], Header]
Status = Annotated[int, Field(ge=100, le=599)]


class Parameters(pydantic.BaseModel):
    """The parameters of one type of step."""

    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=False)


class Wait(Parameters):
    seconds: float = Field(strict=True, ge=0, le=10 * 365 * 86_400)


class Http(Parameters):
    url: str = Field(min_length=1)
    method: Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")] = "GET"
    headers: Headers = {}
    query: dict[str, str | int | float | bool] = {}
    json_: Any = Field(None, alias="json")
    form: dict[str, str] | None = None
    body: str | None = None
    expect: Annotated[list[Status], Field(min_length=1)] | None = None
    follow_redirects: bool = True
    timeout_s: float | None = Field(None, strict=True, gt=0, le=86_400)
    max_bytes: int = Field(2**20, strict=True, ge=0, le=MAX_BODY)

    @pydantic.model_validator(mode="after")
    def _has_one_body(self) -> Http:
        if len(self.model_fields_set & {"json_", "form", "body"}) > 1:
            raise ValueError("may have one of json, form and body only")
        return self


class CallAgent(Parameters):
    agent: str
    input: dict[str, Any] = {}


class Llm(Parameters):
    prompt: str | list[dict[str, Any]]
    system: str | None = None
    model: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    temperature: float | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool = True


class If(Parameters):
    condition: bool = Field(strict=True)


class ForEach(Parameters):
    items: Annotated[list[Any], Field(max_length=10_000)]
    limit: int = Field(1, strict=True, ge=1, le=64)


class Parallel(Parameters):
    limit: int | None = Field(None, strict=True, ge=1)


class Retry(Parameters):
    attempts: int = Field(strict=True, ge=2, le=1_000)
    delay_s: float = Field(1.0, strict=True, ge=0, le=86_400)
    backoff: float = Field(1.0, strict=True, ge=1, le=10)


# The parameters of all types but those whose parameters are an agent's input.
TYPES: dict[str, type[Parameters]] = {
    "agent": CallAgent,
    "foreach": ForEach,
    "http": Http,
    "if": If,
    "llm": Llm,
    "parallel": Parallel,
    "retry": Retry,
    "wait": Wait,
}
AGENTS: dict[str, Agent] = {"browser": browser, "command": command}
# Where further steps stand among the parameters of a type, and whether they must be there. All are
# lists of steps, but for `branches`, which is a list of such lists.
INNER = {
    "if": {"then": True, "else": False},
    "foreach": {"steps": True},
    "parallel": {"branches": True},
    "retry": {"steps": True},
}
ALL = sorted([*TYPES, *AGENTS])

_AnyParameters = TypeVar("_AnyParameters", bound=Parameters)


def read(kind: type[_AnyParameters], given: Json) -> _AnyParameters:
    """Check parameters in which every template has been rendered.

    Raises:
        InvalidInput: names what does not fit.
    """
    try:
        return kind.model_validate(given)
    except pydantic.ValidationError as error:
        faults = [(".".join(map(str, at)), why) for at, why in faults_in(kind, error)]
        raise InvalidInput(faults) from None


def check(kind: str, given: Any, catalog: Catalog | None) -> Faults:
    """Return what is wrong with the parameters of a step, as far as that can be known.

    The steps inside it are not among them. What is said of a template is said too early, and is
    left out.

    Args:
        catalog: the agents that there are; None if that is not known.
    """
    if kind in AGENTS:
        return check_input(AGENTS[kind], given, catalog)
    try:
        parameters = TYPES[kind].model_validate(given)
    except pydantic.ValidationError as error:
        return _untemplated(given, faults_in(TYPES[kind], error, *INNER.get(kind, ())))
    if catalog is not None and isinstance(parameters, CallAgent):
        return _check_call(parameters, catalog)
    return []


def check_input(agent: Agent, given: Any, catalog: Catalog | None) -> Faults:
    """Return what is wrong with an agent's input."""
    try:
        agent.parse(given, catalog)
    except InvalidInput as error:
        faults: Faults = [(tuple(at.split(".")[1:]), why) for at, why in error.problems]
        return _untemplated(given, faults)
    return []


def _check_call(asked: CallAgent, catalog: Catalog) -> Faults:
    if is_template(asked.agent):
        return []
    try:
        agent = catalog.get(asked.agent)
    except UnknownAgent as error:
        return [(("agent",), str(error))]
    faults = check_input(agent, asked.input, catalog)
    return [(("input", *at), why) for at, why in faults]


def faults_in(
    kind: type[pydantic.BaseModel], error: pydantic.ValidationError, *more: str
) -> Faults:
    """Return where in the value what is wrong; ``more`` are names that are known too."""
    fields = [field.alias or name for name, field in kind.model_fields.items()]
    return faults_of(error, [*fields, *more])


def _untemplated(given: Any, faults: Faults) -> Faults:
    """Leave out what is said of templates."""
    return [(at, why) for at, why in faults if not is_template(_nearest(given, at))]


def _nearest(value: Any, location: Sequence[str | int]) -> Any:
    for part in location:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and str(part).isdecimal() and int(part) < len(value):
            value = value[int(part)]
    return value
