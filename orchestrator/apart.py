"""What an agent needs a process of its own for, and within which limits that process runs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

import pydantic

from orchestrator.errors import InvalidInput
from orchestrator.faults import faults_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What runs an agent's code: a loop of Trio's or asyncio's, or nothing, for a plain function.
Runtime: TypeAlias = Literal["trio", "asyncio", "sync"]

# In MiB. Within less, Python and what a worker needs of it cannot start.
LEAST_MEMORY = 128


def runtime_of(function: Callable[..., Any], asked: Runtime | None) -> Runtime:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Within which limits each process of an agent's runs is to be.

    Attributes:
        memory_mib: address space in MiB, Python's own included (about 70); from 128, None for
            no limit. For each process that the agent starts too, each on its own.
        cpu_s: processor time in whole seconds, from 1; None for no limit. Likewise.
        env: names of variables of the orchestrator's environment that are passed on, beside the
            few that always are.
        cwd: the folder that it works in; None for an empty one of its own, which is removed.
    """

    memory_mib: int | None = None
    cpu_s: int | None = None
    env: tuple[str, ...] = ()
    cwd: str | None = None


def why_apart(runtime: Runtime, limits: ProcessLimits) -> str:
    """Say why an agent's code cannot run in a task of the orchestrator's; empty if it can."""
    match runtime:
        case "sync":
            return "is a plain function, which as a task would block every other run"
        case "asyncio":
            return "is written for asyncio, which cannot run as a task of Trio's"
        case "trio" if limits != ProcessLimits():
            return "has limits, which bind a process only"
        case _:
            return ""


def parse_limits(given: Mapping[str, Any]) -> ProcessLimits:
    """Check the limits that an agent asks for.

    Raises:
        InvalidInput: names each that does not fit.
    """
    try:
        parsed = _Limits.model_validate(given)
    except pydantic.ValidationError as error:
        raise InvalidInput(
            [(".".join(map(str, at)), why) for at, why in faults_of(error)]
        ) from None
    return ProcessLimits(**parsed.model_dump())


def _variable(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError("is not the name of a variable")
    return name


def _folder(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError("is not the path of a folder")
    return path


class _Limits(pydantic.BaseModel):
    memory_mib: int | None = pydantic.Field(None, strict=True, ge=LEAST_MEMORY, le=1 << 24)
    cpu_s: int | None = pydantic.Field(None, strict=True, ge=1, le=10 * 365 * 86_400)
    env: tuple[Annotated[str, pydantic.AfterValidator(_variable)], ...] = ()
    cwd: Annotated[str, pydantic.AfterValidator(_folder)] | None = None
