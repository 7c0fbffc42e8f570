"""The execution of a run, as a pipeline of small steps: begin, perform, clean up, settle.

One run's exception is caught at its own boundary and never reaches a nursery that others share.
"""

from __future__ import annotations

import inspect
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agent import as_json
from orchestrator.cleanup import bounded
from orchestrator.context import within
from orchestrator.errors import StoreUnavailable, in_words
from orchestrator.events import RunStarted
from orchestrator.lifecycle import Ending, Move, settle
from orchestrator.mcp import close_servers
from orchestrator.model import RunError, RunStatus, StopMode, StopSource
from orchestrator.sections import current_section
from orchestrator.worker.driver import RemoteFailure, work_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.run import Run

# So many characters of what an error says are kept, since every list of runs shows them; and of
# its traceback.
MESSAGE = 10_000
TRACEBACK = 100_000


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
        cancelled, failure = split_cancelled(error)
        run.failure = failure or run.failure
        ending = Ending.RAISED if cancelled is None else Ending.CANCELLED
    await _unwind(run, ending)
    run.exit()
    if isinstance(run.failure, KeyboardInterrupt):
        raise run.failure
    if cancelled is not None:
        raise cancelled


async def _perform(run: Run) -> Ending:
    """Wait until the start is durable, then run the agent's code in the run's scope and nursery."""
    ending = Ending.CANCELLED
    with run.scope, within(run.context):
        run.task = trio.lowlevel.current_task()
        run.gate.outer = current_section()
        if run.record.status.is_terminal:
            return ending
        if run.parent is not None:
            # In the section of the parent's that calls it. A root began with its slot.
            begin(run)
        else:
            await _durable(run)
        # A stop that came while the start became durable finds code that never begins.
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            async with trio.open_nursery() as run.nursery:
                try:
                    value = await _call_agent(run)
                finally:
                    await close_servers(run)
                run.value = as_json(value, "result")
                # From here on a stop finds an agent that had already returned.
                ending = Ending.RETURNED
            await run.gate.park()
        except Exception as error:
            # A stop that comes while it is paused here must not lose it.
            run.failure = error
            await run.gate.park()
            raise
        finally:
            run.nursery = None
            run.gate.left = True
    return ending


async def _call_agent(run: Run) -> Any:
    if run.record.options.isolation == "process" or run.agent.why_apart:
        return await work_elsewhere(run)
    with printable_errors():
        return await run.agent.function(run.context, **run.arguments)


@contextmanager
def printable_errors() -> Iterator[None]:
    """Put another error in place of one that cannot be printed.

    A nursery puts whatever passes it into words, and is left corrupt if that fails.
    """
    try:
        yield
    except BaseException as error:
        try:
            repr(error)
        except KeyboardInterrupt:
            raise
        except BaseException:
            raise RuntimeError(f"{type(error).__name__} {in_words(error)}") from None
        raise


def begin(run: Run) -> None:
    """Move to ``running``, and count the run's limits from now. Not a checkpoint."""
    started = RunStarted(run.agent.name, run.record.attempt)
    if run.record.status is RunStatus.QUEUED:
        deadline_s, deadline_at = run.record.options.deadline_s, run.record.deadline_at
        if deadline_s is not None and deadline_at is None and not run.record.deadline_moved:
            deadline_at = run.now(deadline_s)
        run.ledger.change(Move.START, started, started_at=run.now(0), deadline_at=deadline_at)
    else:
        # Started again after a crash, which does not move its deadline.
        run.ledger.save(payload=started, urgent=True)
    run.limits.arm()
    run.brake.follow(run.parent or run)
    if run.record.options.debug and run.record.status is RunStatus.RUNNING:
        run.brake.pause("", "debug")
    if run.parent is not None:
        run.ladder.follow(run.parent.ladder)


async def _durable(run: Run) -> None:
    """Wait until the start of a root is durable: its code runs only then."""
    if run.shown is not None:
        # It has waited for its turn, and may be known.
        run.ledger.settle_start()
    try:
        await run.journal.durable(run.ticket)
    except StoreUnavailable:
        refuse_unstored(run)
    else:
        run.ledger.settle_start()
    # An answer over HTTP/1.1 takes two turns of the loop, and the first step of an agent may be
    # long. An answer over HTTP/2 takes more turns, and may still have to wait for that step.
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


def refuse_unstored(run: Run) -> None:
    """Stop a run before its code begins, since its start cannot be made durable.

    May be called twice: by whoever waits for the start, and by the run itself.
    """
    if run.ladder.stop is None:
        reason = "its start was not stored"
        run.request_stop(mode=StopMode.NOW, source=StopSource.ADMIN, reason=reason)
    run.ledger.withdraw_start()


async def _unwind(run: Run, ending: Ending) -> None:
    """Clean up after the agent's code, and settle what became of the run."""
    if ending is Ending.CANCELLED and run.ladder.stop is None:
        run.request_stop(mode=StopMode.NOW, source=_canceller(run), reason="cancelled from outside")
    elif run.record.status is RunStatus.PAUSED and run.ladder.stop is None:
        # Interrupted where nobody could wait for the pause to be over.
        run.request_stop(mode=StopMode.NOW, source=StopSource.ADMIN, reason="interrupted")
    await run.ladder.last.over()
    if run.record.status.is_terminal:
        return
    await _clean_up(run, ending)
    await run.ladder.last.over()
    if run.compensated:
        # What it had done was undone, so it cannot have succeeded any more.
        ending = Ending.CANCELLED
    stop = run.ladder.stop
    move = settle(ending, None if stop is None else stop.request.source)
    run.context.flush()
    run.end(move, error=None if run.failure is None else describe(run.failure))


async def _clean_up(run: Run, ending: Ending) -> None:
    """Compensate if the run is being stopped, and close its client; a stop may come any time."""
    while True:
        stopped = run.ladder.stop is not None and ending is not Ending.RETURNED
        if stopped:
            await compensate(run)
        # A compensation has the client too; one that a late stop brings gets a new one.
        await _close_client(run)
        if stopped or run.ladder.stop is None or ending is Ending.RETURNED:
            return


async def compensate(run: Run) -> None:
    """Run the compensations, last registered first; one that fails never prevents the next."""
    with within(run.context):
        while run.compensations:
            callback, arguments = run.compensations.pop()
            run.compensated = True
            name = getattr(callback, "__qualname__", type(callback).__name__)
            limit_s = run.ladder.cleanup_s
            run.ladder.rearm(limit_s)
            try:
                with run.gate.compensation(name, limit_s) as scope:
                    result = callback(*arguments)
                    if inspect.isawaitable(result):
                        await result
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # Whatever it is, SystemExit or a group of anything, ends this one only.
                run.cleanup_failed(f"{name}: {type(error).__name__}: {in_words(error)}")
            else:
                if scope.cancelled_caught:
                    run.cleanup_failed(f"{name}: not done within {limit_s:g} s")


async def _close_client(run: Run) -> None:
    client = run.take_client()
    if client is None:
        return
    limit_s = run.ladder.cleanup_s
    run.ladder.rearm(limit_s)
    try:
        with bounded(limit_s):
            await client.aclose()
    except Exception as error:
        run.cleanup_failed(f"HTTP client: {type(error).__name__}: {in_words(error)}")
    run.client_closed()


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
    if isinstance(error, RemoteFailure):
        return error.error
    try:
        lines = traceback.format_exception(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        lines = traceback.format_tb(error.__traceback__)
    message, trace = in_words(error), "".join(lines)
    if len(message) > MESSAGE:
        message = f"{message[:MESSAGE]}…"
    if len(trace) > TRACEBACK:
        # Its end says what has happened, and where.
        trace = f"…{trace[-TRACEBACK:]}"
    return RunError(type=type(error).__name__, message=message, traceback=trace)


def _canceller(run: Run) -> StopSource:
    return StopSource.PARENT if run.parent is not None else StopSource.SHUTDOWN
