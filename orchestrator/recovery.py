"""What becomes of the runs that the last process left over, settled before anything else.

A run whose stop was on record is stopped if its process is proved to be gone, and lost otherwise:
a process that was cut off from a database on another machine may be at work as ever. Nothing that
was asked to stop is ever started again.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput, UnknownAgent
from orchestrator.feed import Feed
from orchestrator.lifecycle import Move, advance
from orchestrator.model import (
    OperationCounts,
    Receipt,
    RunRecord,
    RunStatus,
    StopMode,
    StopOutcome,
    StopSource,
)
from orchestrator.run import Run
from orchestrator.stopping import discards, ending_of
from orchestrator.store.writes import Discard

if TYPE_CHECKING:
    from orchestrator.model import Halt, RunId
    from orchestrator.services import Services

_log = logging.getLogger("quiesce.recovery")


async def recover(services: Services, halt: Halt | None = None) -> Counter[str]:
    """Settle every run that is not terminal, or start it again. Durable when this returns.

    Args:
        halt: if one is on, every run counts as stopped by it.

    Returns:
        how many are ``restarted``, ``stopped`` and ``lost``.
    """
    became: Counter[str] = Counter()
    feeds: dict[RunId, Feed] = {}
    stops: dict[RunId, Receipt] = {}
    again: list[Run] = []
    left = await services.engine.left_over()
    # A stop is inherited downwards; parents come first.
    for record in left:
        above = stops.get(record.parent_id or record.id)
        if record.stop is not None:
            stops[record.id] = record.stop
        elif above is not None:
            stops[record.id] = replace(
                above, source=StopSource.PARENT, previous_status=record.status, runs_stopped=1
            )
        elif halt is not None:
            stops[record.id] = _stop_by_halt(record, halt)
    # Children before parents, as their last events always are.
    for record in reversed(left):
        if record.root_id not in feeds:
            last = await services.store.last_seq(record.root_id)
            feeds[record.root_id] = Feed(record.root_id, last)
        feed = feeds[record.root_id]
        if record.id in stops or not _may_restart(record):
            became[settle_left(record, stops.get(record.id), feed, services)] += 1
        elif isinstance(run := _again(record, feed, services), Run):
            became["restarted"] += 1
            again.append(run)
        else:
            became[run] += 1
    services.engine.restore(again[::-1])
    for run in again:
        run.ledger.save(urgent=True)
    if left:
        _log.warning("the last process left %d runs: %d start again", len(left), len(again))
        if not services.store.last_is_gone:
            _log.warning("it is not proved to have ended, so its runs may be at work as ever")
        await services.journal.durable(services.journal.append([], urgent=True))
    return became


def _may_restart(record: RunRecord) -> bool:
    if record.parent_id is not None:
        return False
    if record.status is RunStatus.QUEUED:
        return True
    options = record.options
    return options.on_crash == "restart" and record.attempt < options.max_attempts


def settle_left(
    record: RunRecord, stop: Receipt | None, feed: Feed, services: Services
) -> RunStatus:
    """End a run that was left over, and return as what."""
    at = services.now(0)
    never_began = record.status is RunStatus.QUEUED
    if stop is None and never_began:
        # A sub-agent whose code had not begun, and whose parent is gone: not even lost.
        why = "the process of its parent ended before it began"
        stop = _stop_of(record, at, StopSource.PARENT, why)
    if stop is not None and (never_began or services.store.last_is_gone):
        status, stop = RunStatus.STOPPED, _settled(stop, at)
    else:
        status = advance(record.status, Move.LOSE)
        stop = stop and replace(stop, outcome=StopOutcome.LOST)
    ended = replace(
        record,
        status=status,
        ended_at=at,
        stop=stop,
        waiting_for=None,
        version=record.version + 1,
    )
    event = feed.number(record.id, ending_of(ended), at)
    # What the stop promised, the process that is gone may not have done.
    gone = stop is not None and discards(stop)
    services.engine.close_out(ended, event, *([Discard(record.id)] if gone else []))
    return status


def _settled(stop: Receipt, at: str) -> Receipt:
    took = datetime.fromisoformat(at) - datetime.fromisoformat(stop.requested_at)
    seconds = max(0.0, took.total_seconds())
    return replace(stop, outcome=StopOutcome.STOPPED, settled_at=at, seconds=seconds)


def _again(record: RunRecord, feed: Feed, services: Services) -> Run | RunStatus:
    """Return the run that is to start: it never began, or its starter wanted it to start again.
    If it cannot it is settled; then return as what."""
    attempt = record.attempt + (record.status is not RunStatus.QUEUED)
    try:
        agent = services.catalog.get(record.agent)
        arguments, _ = agent.parse(record.input, services.catalog)
    except (UnknownAgent, InvalidInput) as error:
        _log.error("run %s cannot start: %s", record.id, error)
        never_began = record.status is RunStatus.QUEUED
        stop = _stop_of(record, services.now(0), StopSource.ADMIN, f"it cannot start: {error}")
        return settle_left(record, stop if never_began else None, feed, services)
    restarted = replace(record, attempt=attempt, version=record.version + 1, waiting_for=None)
    return Run(services, agent, arguments, restarted, feed=feed)


def _stop_by_halt(record: RunRecord, halt: Halt) -> Receipt:
    stop = _stop_of(record, halt.requested_at, StopSource.HALT, halt.reason)
    return replace(stop, mode=halt.mode, requested_by=halt.requested_by)


def _stop_of(record: RunRecord, at: str, source: StopSource, reason: str) -> Receipt:
    """Return a stop that is not settled yet, of a run that was left over without one."""
    return Receipt(
        mode=StopMode.NOW,
        reached=StopMode.GRACEFUL,
        requested_at=at,
        requested_by="",
        source=source,
        reason=reason,
        previous_status=record.status,
        settled_at=None,
        seconds=None,
        outcome=StopOutcome.STOPPING,
        runs_stopped=1,
        operations=OperationCounts(),
        clients_closed=0,
    )
