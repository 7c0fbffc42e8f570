"""Where tasks stand: their await stacks, read from outside while they sleep."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpcore
import httpx
import trio

from orchestrator.model import RunId, Standing  # Pydantic reads the types

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Frames of these say how something waits; the agent's own say what for.
_FILES = (trio.__file__, httpx.__file__, httpcore.__file__, __file__)
_MACHINERY = tuple(f"{Path(file).parent}{os.sep}" for file in _FILES)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_INSTALLED = sysconfig.get_path("purelib") + os.sep
_AGENTS = str(Path(__file__).parent / "agents")


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of an await stack."""

    file: str
    line: int
    function: str

    @property
    def is_agents(self) -> bool:
        """Whether it is code of an agent rather than of the machinery around it."""
        if self.file.startswith(_STANDARD_LIBRARY) and not self.file.startswith(_INSTALLED):
            return False
        return self.file.startswith(_AGENTS) or not self.file.startswith(_MACHINERY)


@dataclass(frozen=True, slots=True)
class TaskStack:
    """One live task of a run.

    Attributes:
        operation: what it is in, such as ``http GET https://…``; empty if nothing.
        frames: outermost first, innermost last.
    """

    run_id: RunId
    agent: str
    operation: str
    frames: tuple[Frame, ...]

    @property
    def standing(self) -> Standing:
        """The innermost frame of the agent's own code, or the innermost of all."""
        own = [frame for frame in self.frames if frame.is_agents]
        at = (own or list(self.frames) or [Frame("unknown", 0, "unknown")])[-1]
        return Standing(
            run_id=self.run_id,
            agent=self.agent,
            file=at.file,
            line=at.line,
            function=at.function,
        )


def task_tree(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """Yield the task and every task in its nurseries, parents first."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from task_tree(child)


def frames_of(task: trio.lowlevel.Task) -> tuple[Frame, ...]:
    """Return the await stack of a task, outermost frame first."""
    return tuple(frame_of(frame, line) for frame, line in task.iter_await_frames())


def frame_of(frame: FrameType, line: int | None = None) -> Frame:
    """Return one of Python's frames as one of ours; at the line where it is, unless given."""
    where = line if line is not None else frame.f_lineno
    return Frame(frame.f_code.co_filename, where or 0, frame.f_code.co_qualname)
