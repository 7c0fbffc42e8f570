"""What a worker is to be, and what became of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.model import Json

# How a worker exits that could not have the memory that it asked for.
NO_MEMORY = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker runs, and within which limits.

    Attributes:
        entry: ``module:function``, called with the worker's end of the control socket and
            ``argument``; the process exits when it returns.
        argument: JSON.
        env: the worker's environment, exactly; nothing is inherited.
        cwd: where it works; None for an empty folder of its own, removed when it is gone.
        memory_mib: address space that each of its processes may have, Python's own included
            (about 100 MiB), in MiB from 1; None for no limit.
        cpu_s: processor time that each of its processes may use, in seconds from 1; None for
            no limit.
    """

    entry: str
    argument: Json = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    memory_mib: int | None = None
    cpu_s: int | None = None

    def __post_init__(self) -> None:
        module, _, function = self.entry.partition(":")
        if not module or not function:
            raise ValueError(f"entry must be 'module:function', not {self.entry!r}")
        for name in ("memory_mib", "cpu_s"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, not {limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a worker's process ended.

    Attributes:
        words: the same in words.
        code: its exit code; None if a signal ended it, or its end was not seen.
        signal: the number of the signal that ended it; None likewise.
        cpu_s: processor time that it used, in seconds, with that of children it waited for.
        left_behind: others of its tree that were killed, with it or after it.
        surviving: processes of its that could not be ended.
    """

    words: str
    code: int | None = None
    signal: int | None = None
    cpu_s: float = 0.0
    left_behind: tuple[int, ...] = ()
    surviving: tuple[int, ...] = ()

    @property
    def lost(self) -> bool:
        """Whether its end was not seen, since the warden died with it."""
        return self.code is None and self.signal is None


def in_words(spec: WorkerSpec, status: int, cpu_s: float, *, asked: bool, oom: bool) -> str:
    """Say how a worker ended.

    Args:
        status: its exit code, or the negated number of a signal.
        asked: we had told it to end.
        oom: the kernel killed some process meanwhile, because memory ran out.
    """
    if status >= 0:
        return _exited(spec, status)
    name = _name_of(-status)
    if asked and -status in (signal.SIGTERM, signal.SIGKILL):
        return f"was ended by {name}, as it was told to"
    if spec.cpu_s is not None and (-status == signal.SIGXCPU or cpu_s >= spec.cpu_s):
        return f"used up its processor time of {spec.cpu_s} s, and was ended by {name}"
    if -status == signal.SIGKILL:
        who = "the kernel, since memory ran out" if oom else "somebody else on this machine"
        return f"was killed (SIGKILL), most likely by {who}"
    if spec.memory_mib is not None and -status in (signal.SIGABRT, signal.SIGSEGV):
        return f"was ended by {name}, perhaps at its limit of {spec.memory_mib} MiB of memory"
    return f"was ended by {name}"


def _exited(spec: WorkerSpec, code: int) -> str:
    if code == NO_MEMORY and spec.memory_mib is not None:
        return f"ran out of memory: its limit is {spec.memory_mib} MiB"
    return f"exited with code {code}"


def _name_of(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    described = signal.strsignal(number)
    return f"{name} ({described.lower()})" if described else name
