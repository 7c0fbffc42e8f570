"""What becomes of the runs that the last process left over, settled before anything else.

The store can be open in one process only, so whatever ran in-process is gone: that is the proof
for a run whose stop was on record. Nothing that was asked to stop is ever started again.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime
from functools import partial
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
from orchestrator.stopping import ending_of
from orchestrator.store.protocol import AppendEvent, SaveRun

if TYPE_CHECKING:
    from orchestrator.model import RunId
    from orchestrator.services import Services
    from orchestrator.store.protocol import Store

_log = logging.getLogger("quiesce.recovery")


async def recover(store: Store, services: Services) -> Counter[str]:
    """Settle every run that is not terminal, or start it again. Durable when this returns.

    Returns:
        how many are ``restarted``, ``stopped`` and ``lost``.
    """
    became: Counter[str] = Counter()
    feeds: dict[RunId, Feed] = {}
    stops: dict[RunId, Receipt] = {}
    again: list[RunRecord] = []
    left = await store.unfinished()
    # A stop is inherited downwards; parents come first.
    for record in left:
        above = stops.get(record.parent_id or record.id)
        if record.stop is not None:
            stops[record.id] = record.stop
        elif above is not None:
            stops[record.id] = replace(
                above, source=StopSource.PARENT, previous_status=record.status, runs_stopped=1
            )
    # Children before parents, as their last events always are.
    for record in reversed(left):
        if record.root_id not in feeds:
            feeds[record.root_id] = Feed(record.root_id, await store.last_seq(record.root_id))
        if record.id not in stops and _may_restart(record):
            again.append(record)
        else:
            became[_settle(record, stops.get(record.id), feeds[record.root_id], services)] += 1
    for record in reversed(again):
        became[_restart(record, feeds[record.root_id], services)] += 1
    if left:
        _log.warning("the last process left %d runs: %d start again", len(left), len(again))
        await services.journal.durable(services.journal.append([], urgent=True))
    return became


def _may_restart(record: RunRecord) -> bool:
    if record.parent_id is not None:
        return False
    if record.status is RunStatus.QUEUED:
        return True
    options = record.options
    return options.on_crash == "restart" and record.attempt < options.max_attempts


def _settle(record: RunRecord, stop: Receipt | None, feed: Feed, services: Services) -> RunStatus:
    """End a run whose process is gone, and return as what."""
    at = services.now(0)
    if stop is None and record.status is RunStatus.QUEUED:
        # A sub-agent whose code had not begun, and whose parent is gone: not even lost.
        stop = _never_began(at)
    if stop is not None:
        took = datetime.fromisoformat(at) - datetime.fromisoformat(stop.requested_at)
        stop = replace(
            stop,
            outcome=StopOutcome.STOPPED,
            settled_at=at,
            seconds=max(0.0, took.total_seconds()),
        )
    status = RunStatus.STOPPED if stop is not None else advance(record.status, Move.LOSE)
    ended = replace(
        record,
        status=status,
        ended_at=at,
        stop=stop,
        waiting_for=None,
        version=record.version + 1,
    )
    event = feed.number(record.id, ending_of(ended), at)
    with_it = services.observers.ending(event, ended)
    services.journal.append(
        [SaveRun(ended), AppendEvent(event), *with_it],
        partial(services.observers.shown, event, ended),
        urgent=True,
    )
    return status


def _restart(record: RunRecord, feed: Feed, services: Services) -> str:
    """Start a run again: one that never began, or whose starter wanted it; return what it is."""
    attempt = record.attempt + (record.status is not RunStatus.QUEUED)
    try:
        agent = services.catalog.get(record.agent)
        arguments, _ = agent.parse(record.input, services.catalog)
    except (UnknownAgent, InvalidInput) as error:
        _log.error("run %s cannot start again: %s", record.id, error)
        return _settle(replace(record, status=RunStatus.RUNNING), None, feed, services)
    restarted = replace(record, attempt=attempt, version=record.version + 1, waiting_for=None)
    run = Run(services, agent, arguments, restarted, feed=feed)
    services.registry.add(run)
    run.ledger.save(urgent=True)
    services.spawn(run.supervise)
    return "restarted"


def _never_began(at: str) -> Receipt:
    return Receipt(
        mode=StopMode.NOW,
        reached=StopMode.GRACEFUL,
        requested_at=at,
        requested_by="",
        source=StopSource.PARENT,
        reason="the process of its parent ended before it began",
        previous_status=RunStatus.QUEUED,
        settled_at=at,
        seconds=0.0,
        outcome=StopOutcome.STOPPED,
        runs_stopped=1,
        operations=OperationCounts(),
        clients_closed=0,
    )
