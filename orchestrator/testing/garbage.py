"""What is left to the garbage collector: generators, coroutines that nobody awaited, files."""

from __future__ import annotations

import gc
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.testing.places import Place, is_own_place
from orchestrator.testing.report import Fault, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


class Heap:
    """The heap during a sweep: what each round leaves on it.

    Attributes:
        tainted: a loop was broken off, so tasks are collected with it, now or later, and what
            they do then says nothing about the agent.
    """

    def __init__(self) -> None:
        self.tainted = False

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Let collections in the body look only at what it makes, which is much faster, and say
        nothing of what is collected from loops that were broken off."""
        before = sys.unraisablehook

        def hook(unraisable: sys.UnraisableHookArgs, /) -> None:
            if not self.tainted:
                before(unraisable)

        gc.collect()
        gc.freeze()
        sys.unraisablehook = hook
        try:
            yield
        finally:
            gc.collect()
            sys.unraisablehook = before
            gc.unfreeze()

    @contextmanager
    def left_in(self) -> Iterator[list[Finding]]:
        """Yield a list that gets, at the end of the body, what was left in it."""
        found: list[Finding] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield found
            gc.collect()
        if not self.tainted:
            found += [finding for each in caught for finding in _judge(each)]


def _judge(caught: warnings.WarningMessage) -> list[Finding]:
    said = str(caught.message)
    if issubclass(caught.category, RuntimeWarning) and "never awaited" not in said:
        return []
    if not issubclass(caught.category, ResourceWarning | RuntimeWarning):
        return []
    code = _code_of(caught.source)
    place = code and Place(code.co_filename, code.co_firstlineno, code.co_qualname)
    if place and not is_own_place(place):
        return []  # a generator of a library, which does not need to be closed to be clean
    return [Finding(Fault.LEFT_TO_COLLECT, said, place)]


def _code_of(source: Any) -> Any:
    for name in ("ag_code", "cr_code"):
        code = getattr(source, name, None)
        if code is not None:
            return code
    return None
