"""The lifecycle table, whole: every status with every move."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.errors import IllegalTransition
from orchestrator.lifecycle import (
    TRANSITIONS,
    Ending,
    Move,
    advance,
    available_actions,
    settle,
)
from orchestrator.model import RunStatus, StopSource

# The contract's table, written down a second time on purpose.
MAY_GO_TO = {
    "queued": "running stopped timed_out",
    "running": "pausing stopping succeeded failed lost",
    "pausing": "paused running stopping succeeded failed lost",
    "paused": "running stopping lost",
    "stopping": "stopping stopped timed_out succeeded abandoned lost",
    "succeeded": "",
    "failed": "",
    "stopped": "",
    "timed_out": "",
    "abandoned": "",
    "lost": "",
}
MEANS = {
    Move.START: "running",
    Move.PAUSE: "pausing",
    Move.PARK: "paused",
    Move.RESUME: "running",
    Move.SUCCEED: "succeeded",
    Move.FAIL: "failed",
    Move.SETTLE: "stopped",
    Move.TIME_OUT: "timed_out",
    Move.ABANDON: "abandoned",
    Move.LOSE: "lost",
}


@pytest.mark.parametrize("status", RunStatus)
def test_a_status_leads_where_the_contract_says_and_nowhere_else(status: RunStatus) -> None:
    assert set(TRANSITIONS[status].values()) == set(MAY_GO_TO[status].split())


@pytest.mark.parametrize(("status", "move"), list(itertools.product(RunStatus, Move)))
def test_every_pair_of_status_and_move(status: RunStatus, move: Move) -> None:
    if move not in TRANSITIONS[status]:
        with pytest.raises(IllegalTransition, match=f"{status} cannot {move}"):
            advance(status, move)
        return
    following = advance(status, move)
    assert following in MAY_GO_TO[status].split()
    if move is Move.STOP:
        assert following == ("stopped" if status is RunStatus.QUEUED else "stopping")
    else:
        assert following == MEANS[move]


def test_resuming_is_for_what_is_paused_and_starting_for_what_is_queued() -> None:
    assert [s for s in RunStatus if Move.RESUME in TRANSITIONS[s]] == ["pausing", "paused"]
    assert [s for s in RunStatus if Move.START in TRANSITIONS[s]] == ["queued"]


@pytest.mark.parametrize("stop", [None, *StopSource])
@pytest.mark.parametrize("ending", Ending)
def test_how_a_run_ends_follows_from_its_ending_and_the_source_of_the_stop(
    ending: Ending, stop: StopSource | None
) -> None:
    if ending is Ending.CANCELLED and stop is None:
        with pytest.raises(AssertionError, match="must have a stop"):
            settle(ending, stop)
        return
    move = settle(ending, stop)
    match ending, stop:
        case Ending.RETURNED, _:
            assert move is Move.SUCCEED
        case Ending.RAISED, None:
            assert move is Move.FAIL
        case _, StopSource.DEADLINE:
            assert move is Move.TIME_OUT
        case _:
            assert move is Move.SETTLE
    # Whatever is decided is an arrow of the table.
    advance(RunStatus.RUNNING if stop is None else RunStatus.STOPPING, move)


@pytest.mark.parametrize("status", RunStatus)
def test_actions_are_offered_exactly_where_the_table_allows_them(status: RunStatus) -> None:
    offered = {
        RunStatus.QUEUED: ("stop",),
        RunStatus.RUNNING: ("stop", "pause"),
        RunStatus.PAUSING: ("stop", "resume"),
        RunStatus.PAUSED: ("stop", "resume", "step"),
        RunStatus.STOPPING: ("stop",),
    }
    assert available_actions(status) == offered.get(status, ("rerun",))
