"""What must be true of the store and the trace once a story is over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.events import ENDINGS
from tests.model import model
from tests.model.account import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator import Event, RunRecord
    from tests.model.world import World


async def check(world: World) -> None:
    """Note everything that is wrong at the end as faults of the trace."""
    records: dict[str, RunRecord] = {record.id: record for record in await world.records()}
    faults = [*left_over(world), *fates(world, records)]
    for root in world.seen:
        events = await world.disk.events(root, after=0, limit=10**6)
        tree = [record for record in records.values() if record.root_id == root]
        if not tree:
            continue
        faults += feed(root, tree, events, world.seen[root])
        for record in tree:
            crashed, *_ = world.fates.get(record.id, (-1,))
            faults += Account(record, records, events, world.trace, crashed).faults()
    world.trace.faults += faults


def left_over(world: World) -> Iterator[str]:
    """Yield what is still there."""
    orchestrator = world.life.orchestrator
    if len(orchestrator.registry):
        yield f"in the registry is {[run.id for run in orchestrator.registry]}"
    if orchestrator.stuck:
        yield f"stuck is {[run.id for run in orchestrator.stuck]}"
    alarms = [a.when for a in orchestrator._services.timers._heap if a.ring is not None]
    if alarms:
        yield f"alarms are set for {alarms}"


def fates(world: World, records: dict[str, RunRecord]) -> Iterator[str]:
    """Yield what became of runs that a crash met, and should not have."""
    for run_id, settled in world.settled.items():
        if records[run_id] != settled:
            yield f"{run_id} had ended, and is now {records[run_id]}, not {settled}"
    for run_id, (life, statuses, again) in world.fates.items():
        began = [e for e in world.trace.of(run_id, "enter") if e.life > life]
        if records[run_id].status not in statuses:
            yield f"{run_id} ended {records[run_id].status} after crash {life}, not {statuses}"
        if began and not again:
            yield f"{run_id} began again after crash {life}"


def feed(root: str, tree: list[RunRecord], events: list[Event], seen: list[Event]) -> Iterator[str]:
    """Yield what is wrong with a feed, or with what was seen of it."""
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield f"the feed of {root} has gaps"
    if seen != events:
        yield f"{len(seen)} events of {root} were seen, and {len(events)} are stored"
    ends: dict[str, Event] = {event.run_id: event for event in events if event.type in ENDINGS}
    if Counter(e.run_id for e in events if e.type in ENDINGS) != Counter(r.id for r in tree):
        yield f"the tree of {root} has runs without exactly one ending"
        return
    if events[-1] is not ends[root]:
        yield f"the feed of {root} ends with {events[-1].type} of {events[-1].run_id}"
    for record in tree:
        own = [event for event in events if event.run_id == record.id]
        yield from model.wrong_moves(own)
        if ends[record.id] is not own[-1] or own[-1].type != f"run.{record.status}":
            yield f"{record.id} is {record.status}, and its last event {own[-1].type}"
        if record.parent_id and ends[record.id].seq > ends[record.parent_id].seq:
            yield f"{record.id} ended after its parent"
