"""What an agent is: a function with a name, a validated input and default options."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import pydantic
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from orchestrator.errors import InvalidInput, UnknownAgent, check_text
from orchestrator.model import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from orchestrator.model import Json

    AgentFunction = Callable[..., Any]

# What runs an agent's code: a loop of Trio's or asyncio's, or nothing, for a plain function.
Runtime: TypeAlias = Literal["trio", "asyncio", "sync"]

# Requests of one run that are under way at once, unless the agent says otherwise.
HTTP_CONCURRENCY = 100


class Agent:
    """A registered agent. Made by ``@agent``; calling it calls the function.

    Attributes:
        name: unique among the agents of an orchestrator.
        description: the function's docstring.
        runtime: what its code is written for: ``trio``, ``asyncio``, or ``sync`` for a plain
            function. All but the first run in a process of their own.
        input_schema: JSON Schema of the input object.
        options: what a run of it gets where its starter says nothing.
        http_concurrency: requests of one run under way at once.
    """

    def __init__(
        self,
        function: AgentFunction,
        *,
        name: str | None = None,
        runtime: Runtime | None = None,
        options: Mapping[str, Any] | None = None,
        http_concurrency: int = HTTP_CONCURRENCY,
    ) -> None:
        self.runtime = _runtime_of(function, runtime)
        self.function = function
        self.name = name or function.__name__
        self.description = inspect.getdoc(function) or ""
        self.http_concurrency = http_concurrency
        # What it is given where nobody says anything.
        self.options = _DEFAULTS if self.runtime == "trio" else _APART
        self.options = self.parse_options(options or {})
        self._model = _input_model(self.name, function)
        self.input_schema = self._model.model_json_schema()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<agent {self.name}>"

    def parse(
        self, given: Mapping[str, Any], agents: Catalog | None = None
    ) -> tuple[dict[str, Any], Json]:
        """Validate an input against the type hints.

        Args:
            agents: those that there are; the context of validators that want to know.

        Returns:
            the keyword arguments for the function, and the same as JSON for the record.

        Raises:
            InvalidInput: names each field that does not fit, as ``input.<field>``.
        """
        if not isinstance(given, dict):
            raise InvalidInput([("input", "must be an object of named values")])
        try:
            model = self._model.model_validate(given, context=agents)
        except pydantic.ValidationError as error:
            raise InvalidInput(_problems("input", error, self._model)) from None
        arguments = {name: getattr(model, name) for name in self._model.model_fields}
        arguments |= model.model_extra or {}
        return arguments, as_json(model.model_dump(mode="json", exclude_unset=True), "input")

    def parse_options(self, given: Mapping[str, Any]) -> RunOptions:
        """Check the options of a start of it, and lay them over its own.

        Raises:
            InvalidInput: names each option that is unknown, out of range, or not for this agent.
        """
        options = parse_options(given, self.options)
        if options.isolation == "task" and self.runtime != "trio":
            what = "is a plain function" if self.runtime == "sync" else "is written for asyncio"
            why = f"agent {self.name!r} {what}, so it needs 'process': as a task it would block"
            raise InvalidInput([("options.isolation", f"{why} every other run")])
        return options


@overload
def agent(function: AgentFunction, /) -> Agent: ...
@overload
def agent(
    *,
    name: str | None = None,
    runtime: Runtime | None = None,
    http_concurrency: int = HTTP_CONCURRENCY,
    **options: Any,
) -> Callable[[AgentFunction], Agent]: ...
def agent(
    function: AgentFunction | None = None,
    /,
    *,
    name: str | None = None,
    runtime: Runtime | None = None,
    http_concurrency: int = HTTP_CONCURRENCY,
    **options: Any,
) -> Agent | Callable[[AgentFunction], Agent]:
    """Make an agent of a function ``(ctx, **input) -> output``.

    An ``async def`` is run by Trio. A plain ``def`` may block as it likes: it runs in a process
    of its own, and is given a ``SyncContext``.

    Args:
        name: the function's name if left out.
        runtime: ``asyncio`` for an ``async def`` that is written for asyncio. It runs in a
            process of its own, and is given an ``AsyncioContext``.
        http_concurrency: requests of one run of it that may be under way at once.
        options: defaults for its runs, the fields of ``RunOptions``.

    Raises:
        TypeError: it is no function, not one for that runtime, or its first parameter is not a
            context.
        InvalidInput: an option is unknown or out of range.
    """

    def register(function: AgentFunction) -> Agent:
        return Agent(
            function,
            name=name,
            runtime=runtime,
            options=options,
            http_concurrency=http_concurrency,
        )

    return register if function is None else register(function)


class Catalog:
    """Agents by name."""

    def __init__(self, agents: Iterable[Agent] = ()) -> None:
        self._agents: dict[str, Agent] = {}
        for each in agents:
            self.add(each)

    def add(self, agent: Agent) -> None:
        """Register an agent. Adding the same one again does nothing.

        Raises:
            ValueError: another agent has the name.
        """
        if self._agents.setdefault(agent.name, agent) is not agent:
            raise ValueError(f"two agents are named {agent.name!r}; give one `@agent(name=...)`")

    def get(self, agent: Agent | str) -> Agent:
        """Return the agent of that name; an ``Agent`` is registered on the way.

        Raises:
            UnknownAgent: nobody has that name.
        """
        if isinstance(agent, Agent):
            self.add(agent)
            return agent
        if agent not in self._agents:
            raise UnknownAgent(agent, list(self._agents))
        return self._agents[agent]

    def __contains__(self, name: str) -> bool:
        return name in self._agents

    def __iter__(self) -> Iterator[Agent]:
        return iter(sorted(self._agents.values(), key=lambda each: each.name))


_DEFAULTS = RunOptions()
_APART = RunOptions(isolation="process")


class _Options(pydantic.BaseModel):
    """``RunOptions`` with its ranges, as it is parsed from outside."""

    model_config = pydantic.ConfigDict(extra="forbid")

    deadline_s: float | None = pydantic.Field(None, strict=True, gt=0, le=10 * 365 * 86_400)
    idle_timeout_s: float | None = pydantic.Field(None, strict=True, gt=0, le=10 * 365 * 86_400)
    grace_s: float = pydantic.Field(
        _DEFAULTS.grace_s, strict=True, ge=0, le=86_400, allow_inf_nan=False
    )
    cleanup_s: float = pydantic.Field(
        _DEFAULTS.cleanup_s, strict=True, gt=0, le=3_600, allow_inf_nan=False
    )
    isolation: Literal["task", "process"] = "task"
    on_crash: Literal["fail", "restart"] = "fail"
    max_attempts: int = pydantic.Field(_DEFAULTS.max_attempts, strict=True, ge=1, le=1_000)
    debug: bool = pydantic.Field(False, strict=True)
    no_stop_after_percent: float | None = pydantic.Field(None, strict=True, gt=0, le=100)
    tags: tuple[str, ...] = pydantic.Field((), max_length=100)


def parse_options(given: Mapping[str, Any], defaults: RunOptions | None = None) -> RunOptions:
    """Check the options of a start and lay them over the defaults.

    Raises:
        InvalidInput: names each option that is unknown or out of range, as ``options.<name>``.
    """
    if not isinstance(given, dict):
        raise InvalidInput([("options", "must be an object of named values")])
    try:
        parsed = _Options.model_validate(given)
    except pydantic.ValidationError as error:
        raise InvalidInput(_problems("options", error, _Options)) from None
    for tag in parsed.tags:
        check_text("options.tags", tag)
    return replace(defaults or _DEFAULTS, **parsed.model_dump(exclude_unset=True))


def options_as_json(options: RunOptions) -> dict[str, Any]:
    """Return the options as the JSON object that ``parse_options`` takes."""
    return asdict(options) | {"tags": list(options.tags)}


def as_json(value: Any, what: str) -> Json:
    """Return the value as JSON types (dataclasses, models, dates and the like are converted).

    Raises:
        InvalidInput: it has no JSON form; ``what`` names it.
    """
    try:
        text = to_json(value)
        if b"NaN" not in text and b"Infinity" not in text:
            return from_json(text)
    except (PydanticSerializationError, ValueError, RecursionError):
        pass  # a lone surrogate perhaps, which has no UTF-8 but is JSON; or the error below
    try:
        plain = to_jsonable_python(value)
        json.dumps(plain, allow_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidInput([(what, f"is not JSON: {error}")]) from None
    return plain


def _runtime_of(function: AgentFunction, asked: Runtime | None) -> Runtime:
    """Return what runs the function.

    Raises:
        TypeError: it is no function that could be an agent, or not one for what is asked for.
    """
    runtimes = get_args(Runtime)
    if asked is not None and asked not in runtimes:
        raise TypeError(f"runtime must be one of {', '.join(runtimes)}, not {asked!r}")
    if inspect.iscoroutinefunction(function):
        if asked == "sync":
            raise TypeError(f"{function!r} is async; runtime='sync' is for a plain `def`")
        return asked or "trio"
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if yields or not inspect.isroutine(function):
        raise TypeError(f"{function!r} is no function that returns a result; write `async def`")
    if asked not in (None, "sync"):
        raise TypeError(f"{function!r} is a plain function; runtime={asked!r} needs `async def`")
    return "sync"


def _input_model(name: str, function: AgentFunction) -> type[pydantic.BaseModel]:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        raise TypeError(f"agent {name!r} needs the context as its first parameter: `(ctx, ...)`")
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    fields: dict[str, Any] = {
        p.name: (_hint(function, p), ... if p.default is inspect.Parameter.empty else p.default)
        for p in parameters[1:]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    config = pydantic.ConfigDict(extra="allow" if open_ended else "forbid", protected_namespaces=())
    return pydantic.create_model(name, __config__=config, **fields)


def _hint(function: AgentFunction, parameter: inspect.Parameter) -> Any:
    hint = parameter.annotation
    if hint is inspect.Parameter.empty:
        return Any
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, function.__globals__)
    except NameError as error:
        raise TypeError(
            f"the type of {parameter.name!r} in agent {function.__name__!r} cannot be read:"
            f" {error}; import it at the module's top level, outside `if TYPE_CHECKING`"
        ) from None


def _problems(
    prefix: str, error: pydantic.ValidationError, model: type[pydantic.BaseModel]
) -> list[tuple[str, str]]:
    known = ", ".join(model.model_fields) or "none"
    return [
        (
            ".".join([prefix, *map(str, problem["loc"])]),
            f"is not known; known are: {known}"
            if problem["type"] == "extra_forbidden"
            else problem["msg"].removeprefix("Value error, "),
        )
        for problem in error.errors(include_url=False, include_context=False)
    ]
