"""The execution of a run, as a pipeline of small steps: begin, perform, clean up, settle.

One run's exception is caught at its own boundary and never reaches a nursery that others share.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agent import as_json
from orchestrator.cleanup import bounded
from orchestrator.context import within
from orchestrator.errors import StoreUnavailable
from orchestrator.events import RunStarted
from orchestrator.lifecycle import Ending, Move, settle
from orchestrator.model import RunError, RunStatus, StopMode, StopSource

if TYPE_CHECKING:
    from orchestrator.run import Run

_log = logging.getLogger("quiesce.run")


async def supervise(run: Run) -> None:
    """Run the agent to its end and settle the run.

    Raises:
        trio.Cancelled: whoever is around the run was cancelled.
        KeyboardInterrupt: Python delivers it to whatever code runs; it is for the program.
    """
    cancelled: BaseException | None = None
    try:
        ending = await _perform(run)
    except BaseException as error:
        cancelled, run.failure = split_cancelled(error)
        ending = Ending.RAISED if cancelled is None else Ending.CANCELLED
    await _unwind(run, ending)
    run.exited.set()
    run.services.stuck.discard(run)
    if isinstance(run.failure, KeyboardInterrupt):
        raise run.failure
    if cancelled is not None:
        raise cancelled


async def _perform(run: Run) -> Ending:
    """Make the start durable, then run the agent's code in the run's scope and nursery."""
    ending = Ending.CANCELLED
    with run.scope, within(run.context):
        run.task = trio.lowlevel.current_task()
        if run.record.status.is_terminal:
            return ending
        await _begin(run)
        async with trio.open_nursery() as run.nursery:
            value = await run.agent.function(run.context, **run.arguments)
            run.value = as_json(value, "result")
            # From here on a stop finds an agent that had already returned.
            ending = Ending.RETURNED
    return ending


async def _begin(run: Run) -> None:
    """Move to ``running``. The code of a root starts only once that is durable."""
    services = run.services
    deadline_s = run.record.options.deadline_s
    started = RunStarted(run.agent.name, run.record.attempt)
    times: dict[str, Any] = {
        "started_at": services.now(0),
        "deadline_at": None if deadline_s is None else services.now(deadline_s),
    }
    if run.record.status is RunStatus.QUEUED:
        run.ledger.change(Move.START, started, **times)
    else:  # started again after a crash
        run.ledger.save(payload=started, urgent=True, **times)
    run.limits.arm()
    if run.parent is None:
        try:
            await services.journal.durable(run.ticket)
        except StoreUnavailable:
            refuse_unstored(run)
            await trio.lowlevel.checkpoint()


def refuse_unstored(run: Run) -> None:
    """Stop a run before its code begins, since its start cannot be made durable."""
    if run.ladder.stop is None:
        reason = "its start was not stored"
        run.request_stop(mode=StopMode.NOW, source=StopSource.ADMIN, reason=reason)


async def _unwind(run: Run, ending: Ending) -> None:
    """Clean up after the agent's code, and settle what became of the run."""
    if ending is Ending.CANCELLED and run.ladder.stop is None:
        run.request_stop(mode=StopMode.NOW, source=_canceller(run), reason="cancelled from outside")
    if run.record.status.is_terminal or run.ladder.letting_go:
        return
    if run.ladder.stop is not None:
        await compensate(run)
    await _close_client(run)
    if run.ladder.letting_go:
        return
    stop = run.ladder.stop
    move = settle(ending, None if stop is None else stop.request.source)
    run.context.flush()
    run.end(move, error=None if run.failure is None else describe(run.failure))


async def compensate(run: Run) -> None:
    """Run the compensations, last registered first; one that fails never prevents the next."""
    with within(run.context):
        while run.compensations:
            callback, arguments = run.compensations.pop()
            name = getattr(callback, "__qualname__", repr(callback))
            limit_s = run.ladder.cleanup_s
            run.ladder.rearm(limit_s)
            try:
                with run.gate.compensation(name, limit_s) as scope:
                    result = callback(*arguments)
                    if inspect.isawaitable(result):
                        await result
            except Exception as error:
                _log.warning("compensation %s of run %s failed", name, run.id, exc_info=True)
                run.cleanup_failed(f"{name}: {type(error).__name__}: {error}")
            else:
                if scope.cancelled_caught:
                    run.cleanup_failed(f"{name}: not done within {limit_s:g} s")


async def _close_client(run: Run) -> None:
    client = run.client_if_made
    if client is None:
        return
    limit_s = run.ladder.cleanup_s
    run.ladder.rearm(limit_s)
    try:
        with bounded(limit_s):
            await client.aclose()
    except Exception as error:
        run.cleanup_failed(f"HTTP client: {type(error).__name__}: {error}")
    for each in run.stopping_lineage():
        each.ladder.account.clients_closed += 1


def split_cancelled(
    error: BaseException,
) -> tuple[BaseException | None, BaseException | None]:
    """Take an error apart into Trio's cancellation and the rest; either may be None.

    A group of one is unwrapped, so that people see the error and not its wrapping.
    """
    cancelled: BaseException | None = None
    rest: BaseException | None = error
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        cancelled, rest = error.split(trio.Cancelled)
    while isinstance(rest, BaseExceptionGroup) and len(rest.exceptions) == 1:
        rest = rest.exceptions[0]
    return cancelled, rest


def describe(error: BaseException) -> RunError:
    """Put an exception into words."""
    try:
        message = str(error) or repr(error)
    except Exception:
        message = "(it cannot be put into words)"
    lines = traceback.format_exception(error)
    return RunError(type=type(error).__name__, message=message, traceback="".join(lines))


def _canceller(run: Run) -> StopSource:
    return StopSource.PARENT if run.parent is not None else StopSource.SHUTDOWN
