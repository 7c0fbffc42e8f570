"""What each call of Gofannon's passes: whether the run is to stop, and what it is told then."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from orchestrator.context import current_context
from orchestrator.errors import OperationCut, OperationRefused, OrchestratorError
from orchestrator.sections import settling
from orchestrator.worker.face import unwind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.worker.face import AsyncioContext

# How many calls of one run are refused with ``AgentStopped``; the next is cancelled.
PATIENCE = 10

# Those of the run at hand, which all its tasks count in.
_refused: ContextVar[list[None]] = ContextVar("quiesce_gofannon_refused")


class AgentStopped(OrchestratorError):
    """This run is to stop, so nothing was done. Clean up, and let this pass."""


def should_stop() -> bool:
    """Return whether the run that the calling code works for is to stop. Not a checkpoint."""
    return current_context().should_stop


def count_refusals() -> list[None]:
    """Begin a run; return what has an entry for each call that is refused in it."""
    counted: list[None] = []
    _refused.set(counted)
    return counted


@contextmanager
def passing(*, leaf: bool = True) -> Iterator[AsyncioContext]:
    """Let the body make a call, unless the run is to stop.

    Args:
        leaf: it is an operation, whose result is returned if it was in flight then.

    Raises:
        AgentStopped: the run is to stop.
        asyncio.CancelledError: the same, for code that has caught that ``PATIENCE`` times.
    """
    context = cast("AsyncioContext", current_context())
    try:
        if context.should_stop:
            unwind(context)
        with settling() if leaf else nullcontext():
            yield context
    except asyncio.CancelledError:
        # Otherwise the agent's own code has cancelled it.
        if context.should_stop:
            _refuse()
        raise
    except (OperationRefused, OperationCut):
        _refuse()
        raise asyncio.CancelledError from None


def _refuse() -> None:
    """Raise ``AgentStopped`` in place of what unwinds other code, but not without an end.

    What is being handled stays its context, by which the code is known to be unwinding.
    """
    refused = _refused.get([])
    refused.append(None)
    if len(refused) <= PATIENCE:
        raise AgentStopped from None
