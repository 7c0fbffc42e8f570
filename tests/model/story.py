"""What the world does to an orchestrator, and when, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tests.model.program import Program


@dataclass(frozen=True, slots=True)
class Start:
    """Start a root; ``await_it`` waits until that is durable before the story goes on."""

    kind: str
    body: Program
    options: tuple[tuple[str, Any], ...] = ()
    await_it: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    target: int


@dataclass(frozen=True, slots=True)
class Resume:
    target: int


@dataclass(frozen=True, slots=True)
class DebugStep:
    target: int


@dataclass(frozen=True, slots=True)
class Stop:
    target: int
    mode: str = "graceful"
    grace_s: float | None = None
    discard: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the question that the run shows, if it shows one."""

    target: int


@dataclass(frozen=True, slots=True)
class Deadline:
    target: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Rerun:
    """Rerun a root: without its steps, with all, or with those before the nth."""

    target: int
    from_step: int | str | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """The store takes no writes for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies in this very step, and is started again after so many seconds."""

    down_s: float = 0.0


Deed: TypeAlias = (
    Start | Pause | Resume | DebugStep | Stop | Answer | Deadline | Rerun | Outage | Crash
)


@dataclass(frozen=True, slots=True)
class Act:
    """A deed, so many seconds after the one before, and then so many turns of the loop later."""

    deed: Deed
    after_s: float = 0.0
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    """What happens.

    Attributes:
        latency_s: how long the store takes for a write.
        seed: of the order of tasks.
        patient: at the end everything is resumed and answered until it has ended; otherwise the
            orchestrator is left as it is then.
    """

    acts: tuple[Act, ...] = field(default=())
    latency_s: float = 0.0
    seed: int = 0
    patient: bool = True
