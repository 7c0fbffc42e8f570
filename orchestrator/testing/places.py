"""Places in the source: which line of an agent's own code something is about."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio._core._run as trio_run

from orchestrator.stack import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType, TracebackType

_INSTALLED = sysconfig.get_path("purelib") + os.sep
_TESTING = f"{Path(__file__).parent}{os.sep}"
ORCHESTRATOR = f"{Path(__file__).parents[1]}{os.sep}"
# Beyond it there is only whoever has called ``trio.run``.
_LOOP = trio_run.unrolled_run.__code__


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of source."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        path = Path(self.file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}:{self.line} in {self.function}"


def _is_own(frame: Frame) -> bool:
    """Whether somebody would look for the fault there: neither machinery nor a library."""
    return frame.is_agents and not frame.file.startswith(_INSTALLED)


def is_own_place(place: Place) -> bool:
    """Whether the place is in an agent's own code."""
    return _is_own(Frame(place.file, place.line, place.function))


def innermost(frames: Sequence[Frame]) -> tuple[Place | None, list[Frame]]:
    """Return the innermost place of the agent's own code, and the frames that it calls.

    Args:
        frames: outermost first.
    """
    inner: list[Frame] = []
    for frame in reversed(frames):
        if _is_own(frame):
            return Place(frame.file, frame.line, frame.function), inner
        inner.append(frame)
    return None, inner


def calling_place(*, past: str = "") -> Place | None:
    """Return the innermost line of an agent's own code that the caller was called from.

    Args:
        past: files that begin with this are no reason to look further out: what they do they do
            for themselves.
    """
    return place_in(sys._getframe(1), past)


def place_in(frame: FrameType | None, past: str = "") -> Place | None:
    """Return the innermost line of an agent's own code, from that frame outwards, within the
    task or thread."""
    while frame is not None and frame.f_code is not _LOOP:
        seen = _frame(frame, frame.f_lineno)
        if _is_own(seen):
            return Place(seen.file, seen.line, seen.function)
        if past and seen.file.startswith(past) and not seen.file.startswith(_TESTING):
            return None
        frame = frame.f_back
    return None


def caught_place(error: BaseException) -> Place | None:
    """Return the outermost own line that the error came through: where it was caught."""
    for frame in _frames(error.__traceback__):
        if _is_own(frame):
            return Place(frame.file, frame.line, frame.function)
    return None


def raised_place(error: BaseException) -> Place | None:
    """Return the innermost own line that the error came through."""
    return innermost(list(_frames(error.__traceback__)))[0]


def is_own_code(traceback: TracebackType | None) -> bool:
    """Whether the outermost frame of a traceback is an agent's own code."""
    return any(_is_own(frame) for frame in list(_frames(traceback))[:1])


def _frames(traceback: TracebackType | None) -> Iterable[Frame]:
    while traceback is not None:
        yield _frame(traceback.tb_frame, traceback.tb_lineno)
        traceback = traceback.tb_next


def _frame(frame: FrameType, line: int) -> Frame:
    return Frame(frame.f_code.co_filename, line, frame.f_code.co_qualname)
