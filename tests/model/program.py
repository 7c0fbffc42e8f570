"""What an agent does, as plain values. A program is a tuple of instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Sleep:
    """``ctx.sleep``, at whose end a pause takes effect; or Trio's own sleep, if ``raw``."""

    seconds: float
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Report progress."""


@dataclass(frozen=True, slots=True)
class Op:
    """An operation of so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Critical:
    """The body in a critical section of at most so many seconds."""

    max_seconds: float
    body: Program


@dataclass(frozen=True, slots=True)
class Step:
    """The body as a durable step."""

    body: Program


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a person, with or without a limit."""

    within_s: float | None


@dataclass(frozen=True, slots=True)
class Call:
    """Run a sub-agent of that kind; ``catch`` goes on if it fails or is stopped."""

    kind: str
    body: Program
    catch: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a sub-agent, and go on."""

    kind: str
    body: Program


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the sub-agent that was begun last, and do not mind how it ended."""


@dataclass(frozen=True, slots=True)
class StopChild:
    """Stop the sub-agent that was begun last."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Map:
    """Run a sub-agent for each body."""

    kind: str
    bodies: tuple[Program, ...]
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Both:
    """The bodies side by side, in a nursery of the agent's own."""

    bodies: tuple[Program, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """The body, for at most so many seconds."""

    seconds: float
    body: Program


@dataclass(frozen=True, slots=True)
class Swallow:
    """The body, and whatever it raises is swallowed, ``Cancelled`` too."""

    body: Program


@dataclass(frozen=True, slots=True)
class Shield:
    """Let no cancellation in for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Guard:
    """The body, and ``finally`` a cleanup of so many seconds, and perhaps an operation."""

    body: Program
    seconds: float
    acts: bool = False


@dataclass(frozen=True, slots=True)
class OnStop:
    """Register a compensation of so many seconds, as an operation or not, that fails or not."""

    seconds: float
    acts: bool = False
    fails: bool = False


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise an error."""


Instruction: TypeAlias = (
    Sleep
    | Tell
    | Op
    | Critical
    | Step
    | Ask
    | Call
    | Begin
    | Join
    | StopChild
    | Map
    | Both
    | Limit
    | Swallow
    | Shield
    | Guard
    | OnStop
    | Fail
)
Program: TypeAlias = tuple[Instruction, ...]

# The kinds of agents, and what is special about them.
CLEANUP_S = 2.0
GRACE_S = 6.0
KINDS: dict[str, dict[str, float | bool]] = {
    "plain": {},
    "timed": {"deadline_s": 7.0},
    "idle": {"idle_timeout_s": 4.0},
    "debugged": {"debug": True},
}
