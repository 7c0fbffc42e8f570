"""What an agent is: a function with a name, a validated input and default options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, overload

import pydantic
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from orchestrator.apart import ProcessLimits, parse_limits, runtime_of, why_apart
from orchestrator.errors import InvalidInput, check_count, check_text, in_words
from orchestrator.model import RunOptions
from orchestrator.options import parse_options, problems_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.apart import Runtime
    from orchestrator.catalog import Catalog
    from orchestrator.model import Json

    AgentFunction = Callable[..., Any]

# Requests of one run that are under way at once, unless the agent says otherwise.
HTTP_CONCURRENCY = 100

_APART = RunOptions(isolation="process")
_LIMITS = tuple(field.name for field in fields(ProcessLimits))


class Agent:
    """A registered agent. Made by ``@agent``; calling it calls the function.

    Attributes:
        name: unique among the agents of an orchestrator.
        description: the function's docstring.
        runtime: what its code is written for: ``trio``, ``asyncio``, or ``sync`` for a plain
            function.
        limits: those of a process that runs it.
        why_apart: why it must run in a process of its own; empty if it may run in a task.
        input_schema: JSON Schema of the input object.
        options: what a run of it gets where its starter says nothing.
        http_concurrency: requests of one run under way at once.
        max_running: root runs of it that may run at once; None for no limit.
        calls: the field of its input that lists names of agents which it is to call; None if
            its starter has no say in that.
        maker: what made it of a function that stands at the top level of a module, and with which
            named arguments, JSON; another process does so too. None if it stands there itself.
    """

    def __init__(
        self,
        function: AgentFunction,
        *,
        name: str | None = None,
        runtime: Runtime | None = None,
        options: Mapping[str, Any] | None = None,
        http_concurrency: int = HTTP_CONCURRENCY,
        max_running: int | None = None,
        calls: str | None = None,
        maker: tuple[Callable[..., Agent], Mapping[str, Json]] | None = None,
    ) -> None:
        own = dict(options or {})
        self.runtime = runtime_of(function, runtime)
        self.limits = parse_limits({key: own.pop(key) for key in _LIMITS if key in own})
        self.why_apart = why_apart(self.runtime, self.limits)
        self.function = function
        self.name = check_text("name", name or function.__name__)
        self.description = inspect.getdoc(function) or ""
        check_count("http_concurrency", http_concurrency, least=1)
        self.http_concurrency = http_concurrency
        self.max_running = check_count("max_running", max_running, least=1)
        self.maker = maker
        # What it is given where nobody says anything.
        self.options = _APART if self.why_apart else RunOptions()
        self.options = self.parse_options(own)
        self._model = _input_model(self.name, function)
        self.input_schema = self._model.model_json_schema()
        if calls is not None and calls not in [*self._model.model_fields]:
            raise InvalidInput([("calls", f"{calls!r} is no field of the input of {self.name}")])
        self.calls = calls

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
        try:
            model = self._model.model_validate(named_values(given, "input"), context=agents)
        except pydantic.ValidationError as error:
            raise InvalidInput(problems_of("input", error, self._model)) from None
        except Exception as error:
            # Checks of an agent's own may raise anything, and whoever starts it need not be there.
            why = f"cannot be checked: {type(error).__name__}: {in_words(error)}"
            raise InvalidInput([("input", why)]) from error
        arguments = {name: getattr(model, name) for name in self._model.model_fields}
        arguments |= model.model_extra or {}
        try:
            given = model.model_dump(mode="json", exclude_unset=True)
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise InvalidInput([("input", f"is not JSON: {error}")]) from None
        return arguments, as_json(given, "input")

    def called_by(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the agents that an input lets it call; they may be unknown.

        Raises:
            InvalidInput: as ``parse`` does.
        """
        if self.calls is None:
            return ()
        named: Iterable[str] | None = self.parse(given)[0][self.calls]
        # The letters of a name are no agents that somebody may not start.
        return (named,) if isinstance(named, str) else tuple(named or ())

    def parse_options(self, given: Mapping[str, Any]) -> RunOptions:
        """Check the options of a start of it, and lay them over its own.

        Raises:
            InvalidInput: names each option that is unknown, out of range, or not for this agent.
        """
        options = parse_options(given, self.options)
        if options.isolation == "task" and self.why_apart:
            why = f"must be 'process', since agent {self.name!r} {self.why_apart}"
            raise InvalidInput([("options.isolation", why)])
        return options


@overload
def agent(function: AgentFunction, /) -> Agent: ...
@overload
def agent(
    *,
    name: str | None = None,
    runtime: Runtime | None = None,
    http_concurrency: int = HTTP_CONCURRENCY,
    max_running: int | None = None,
    calls: str | None = None,
    **options: Any,
) -> Callable[[AgentFunction], Agent]: ...
def agent(
    function: AgentFunction | None = None,
    /,
    *,
    name: str | None = None,
    runtime: Runtime | None = None,
    http_concurrency: int = HTTP_CONCURRENCY,
    max_running: int | None = None,
    calls: str | None = None,
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
        max_running: root runs of it that may run at once, 1 or more; None for no limit. Further
            ones wait. As a sub-agent it is not counted: it would wait for its own parent.
        calls: the field of its input that lists names of agents which it is to call. Whoever
            starts it over HTTP must have the right to start those too.
        options: defaults for its runs, the fields of ``RunOptions``; and limits of the process
            that each of them then has to itself, the fields of ``ProcessLimits``.

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
            max_running=max_running,
            calls=calls,
        )

    return register if function is None else register(function)


def named_values(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return an input as the object that it must be.

    Raises:
        InvalidInput: it is none; ``what`` names it.
    """
    if not isinstance(given, Mapping):
        raise InvalidInput([(what, "must be an object of named values")])
    return dict(given)


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
    # What is not JSON stays so until it is refused, and does not become null.
    config = pydantic.ConfigDict(
        extra="allow" if open_ended else "forbid",
        protected_namespaces=(),
        ser_json_inf_nan="constants",
    )
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
