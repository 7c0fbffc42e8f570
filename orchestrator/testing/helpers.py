"""Small helpers of tests: wait for a status, collect events, see that a tree is gone."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from orchestrator.events import ENDINGS
from orchestrator.feed import Subscription
from orchestrator.http import RunClient
from orchestrator.model import RunStatus
from orchestrator.testing.leaks import Leaked

if TYPE_CHECKING:
    from orchestrator.events import Event
    from orchestrator.run import Run

# The status that a run has once these events are shown; the others are named for theirs.
_STATUS = {"run.started": RunStatus.RUNNING, "run.resumed": RunStatus.RUNNING}
_STATUS |= {f"run.{status}": status for status in RunStatus}


async def until(run: Run, *statuses: RunStatus | str) -> RunStatus:
    """Wait until the run shows one of the statuses, now or from now on, and return which.

    Event-driven, and a checkpoint unless it shows one already. A status that passes at once is
    seen too.

    Raises:
        AssertionError: the run has ended without showing one.
    """
    wanted = {RunStatus(status) for status in statuses}
    feed, seen = run.feed, run.feed.shown
    if RunStatus(run.status) in wanted:
        return RunStatus(run.status)
    while not run.ended.is_set():
        await feed.wait_beyond(seen)
        for event in feed.after(seen) or ():
            seen = event.seq
            status = _STATUS.get(event.type)
            if event.run_id == run.id and status in wanted:
                return status
            if event.run_id == run.id and event.type in ENDINGS:
                break
    if RunStatus(run.status) in wanted:
        return RunStatus(run.status)
    names = " or ".join(sorted(wanted))
    raise AssertionError(f"{run.id} ended {run.status}, and was never {names}")


async def record(run: Run) -> list[Event]:
    """Wait until the run has ended, and return all its events and those of its sub-agents."""
    record = run.record
    subscription = Subscription(
        run.services.store, run.id, record.root_id, feed=run.feed, members=[run.id], after=0
    )
    return [event async for event in subscription]


def assert_tree_gone(run: Run) -> None:
    """Check that the run and everything below it has ended, and that nothing of it is left.

    Not a checkpoint: it says what holds now.

    Raises:
        Leaked: a run of the tree is live, a task of it stands somewhere, or a connection is open.
    """
    left = [
        f"run {each.id} ({each.record.agent}), which is {each.status}"
        for each in run.services.registry
        if run in each.lineage()
    ]
    left += [
        f"task of {stack.agent}, which stands at {stack.standing.file}:{stack.standing.line}"
        for stack in run.stack_here()
    ]
    left += [
        f"{client.connections} connections of the HTTP client of {owner.record.agent}"
        for client, owner in _clients()
        if client.connections and run in owner.lineage()
    ]
    if not run.record.status.is_terminal and not left:
        left.append(f"run {run.id}, which is {run.record.status}")
    if left:
        raise Leaked(left)


def _clients() -> list[tuple[RunClient, Run]]:
    """Every HTTP client of a run that the process still holds; a closed run lets go of its own."""
    found = [each for each in gc.get_objects() if type(each) is RunClient]
    return [(client, client.http._transport._gate._run) for client in found]  # type: ignore[attr-defined]
