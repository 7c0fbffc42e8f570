"""What is asked of runs, over HTTP and over WebSockets alike.

It takes effect when the object is made, before anything is awaited; ``answer`` waits until that is
durable, and says what has become of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import trio
from quart import g

from api.auth.guard import caller, check_owner, check_run, check_start
from api.auth.noting import done, kind_of, refused, started
from api.auth.rights import Right
from api.calls import the_orchestrator, whole_run
from api.forms import by_their_fields
from api.problems import StopNotDurable, from_error
from orchestrator import (
    InvalidInput,
    OrchestratorError,
    RunEnded,
    RunStatus,
    StopSource,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.schema import ControlOrder, StartOrder, StopOrder
    from orchestrator import File, Run, RunRecord


class Asked(Protocol):
    """Something that was asked for, and has taken effect."""

    async def answer(self) -> tuple[dict[str, Any], int]:
        """Return the body and the HTTP status of the answer, once it may be given."""


async def begin(order: StartOrder, files: Sequence[File] = ()) -> Run:
    """Start a run of the caller's; it begins in the step in which this returns.

    Args:
        files: what it is started with.

    Raises:
        Forbidden: the agent is for admins only.
        OrchestratorError: as for ``Orchestrator.start``.
    """
    check_start(order.agent, order.input)
    try:
        run = await the_orchestrator().begin(
            order.agent,
            order.input,
            options=order.options,
            owner=caller().principal,
            files=files,
        )
    except InvalidInput as error:
        raise by_their_fields(error, g.fields_of_files) from None
    started("start", run)
    return run


async def start(order: StartOrder, files: Sequence[File] = ()) -> Run:
    """Start a run of the caller's; it is durable when this returns. Errors as for ``begin``."""
    return await the_orchestrator().stored(await begin(order, files))


class Act:
    """Something that is asked of a live run.

    Args:
        action: what it is called in the audit.
        ask: returns the journal's ticket, as the verbs of a run do.
        reason: why, for the audit.
        status: that of the answer.
    """

    def __init__(
        self,
        action: str,
        run_id: str,
        ask: Callable[[Run], int],
        *,
        reason: str = "",
        status: int = 202,
    ) -> None:
        self._run_id = run_id
        self._status = status
        self._orchestrator = the_orchestrator()
        live = self._orchestrator.live(run_id)
        self._ended = live is None or live.record.status.is_terminal
        self._refusal: Exception | None = None
        self._ticket = 0 if live is None else live.ticket
        if live is not None and not self._ended:
            try:
                ask(live)
            except Exception as error:
                self._ticket, self._refusal = live.ticket, error
            else:
                self._ticket = done(action, live, reason)

    async def answer(self) -> tuple[dict[str, Any], int]:
        """Return the run once it is durable; what refuses it is durable too before it is told.

        Raises:
            UnknownRun, RunEnded: there was nothing to act on.
            StoreUnavailable: it is being carried out, but is not durable yet.
            Exception: whatever the run refused it with.
        """
        await self._orchestrator.durable(self._ticket)
        if self._refusal is not None:
            raise self._refusal
        if self._ended:
            record = await self._orchestrator.get(self._run_id)
            raise RunEnded(record.id, record.status)
        return await whole_run(self._run_id), self._status


class Stop:
    """A stop of a run, which may have ended.

    Args:
        ask: false if the stop of a run above it is asked for in the same step.
    """

    def __init__(self, run_id: str, order: StopOrder, *, ask: bool = True) -> None:
        self._run_id = run_id
        self._orchestrator = the_orchestrator()
        self._live = self._orchestrator.live(run_id)
        # While an end is being stored nobody knows of it, so neither may the answer.
        asked = self._live is not None and not self._live.record.status.is_terminal
        self._ticket = 0 if self._live is None else self._live.ticket
        self._wait_s = order.wait_s
        if self._live is not None and asked and ask:
            self._live.request_stop(
                mode=order.mode,
                grace_s=order.grace_s,
                reason=order.reason,
                source=_source(self._live),
                requested_by=caller().principal,
                discard=order.discard,
            )
            self._ticket = done("stop", self._live, order.reason)

    @property
    def shown(self) -> RunRecord | None:
        """The run as it is durable; None if it was not live when the stop was asked for."""
        return None if self._live is None else self._live.shown

    async def answer(self) -> tuple[dict[str, Any], int]:
        """Return the run and its receipt, once the stop is durable.

        It waits for the end of the run as long as the order says; the status is 200 only if that
        is there.

        Raises:
            UnknownRun, RunEnded: there was nothing to stop.
            StopNotDurable: it is being carried out, but a crash now could forget it.
        """
        await self.durable()
        with trio.move_on_after(self._wait_s):
            await self.ended()
        return self.receipt_of(await whole_run(self._run_id))

    async def durable(self) -> None:
        """Wait until the stop is durable; errors as in ``answer``."""
        try:
            await self._orchestrator.durable(self._ticket)
        except StoreUnavailable as error:
            if self._live is None or self._live.receipt is None:
                raise
            raise StopNotDurable(self._live, error) from error

    async def ended(self) -> None:
        """Wait until the run has ended, and that is durable."""
        if self._live is not None:
            await self._live.ended.wait()

    def receipt_of(self, run: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """Return what to answer, given what the run looks like; errors as in ``answer``."""
        status = RunStatus(run["status"])
        if status.is_terminal and run["stop"] is None:
            raise RunEnded(run["id"], status)
        return {"run": run, "receipt": run["stop"]}, 200 if status.is_terminal else 202


class Checked:
    """Something that is asked of a run over a connection, by a caller who may not be allowed to.

    Nothing takes effect on a run that is not live; so that they may is looked at for a live one at
    once, and for another only before it is told what became of it.

    Args:
        action: what it is called in the audit.
        ask: asks it; called once, now, or not at all.
        reason: why, for the audit.
    """

    def __init__(
        self, action: str, run_id: str, ask: Callable[[], Asked], *, reason: str = ""
    ) -> None:
        self._about = (action, run_id, reason)
        self._run_id = run_id
        self._asked: Asked | OrchestratorError
        try:
            live = the_orchestrator().live(run_id)
            if live is not None:
                check_owner(Right.ACT, run_id, live.record.owner)
            self._asked = ask()
        except OrchestratorError as error:
            self._asked = error

    async def answer(self) -> tuple[dict[str, Any], int]:
        """See ``Asked.answer``.

        Raises:
            UnknownRun, Forbidden: the caller may not see the run, or not do that to it.
            OrchestratorError: whatever it was refused with. The audit has each of these.
        """
        try:
            if isinstance(self._asked, OrchestratorError):
                raise self._asked
            await check_run(Right.ACT, self._run_id)
            return await self._asked.answer()
        except OrchestratorError as error:
            await refused(*self._about, await kind_of(from_error(error)))
            raise


def _source(run: Run) -> StopSource:
    # Only an admin may act on somebody else's run; one without an owner is nobody else's.
    own = run.record.owner in ("", caller().principal)
    return StopSource.USER if own else StopSource.ADMIN


def pause(run_id: str, order: ControlOrder) -> Act:
    """Let nothing new start in the run and below it; what is in flight finishes."""

    def ask(run: Run) -> int:
        return run.request_pause(requested_by=caller().principal, reason=order.reason)

    return Act("pause", run_id, ask, reason=order.reason)


def resume(run_id: str, order: ControlOrder) -> Act:
    """Let a paused run, and everything below it, go on."""

    def ask(run: Run) -> int:
        return run.request_resume(requested_by=caller().principal)

    return Act("resume", run_id, ask, reason=order.reason)


def step(run_id: str, order: ControlOrder) -> Act:
    """Let one task of a paused tree through its gate."""

    def ask(run: Run) -> int:
        return run.request_step(requested_by=caller().principal)

    return Act("step", run_id, ask, reason=order.reason)
