"""The lifecycle of a run: one table, and the pure functions that read it.

    queued ──start──> running ──stop──> stopping ──settle──> stopped
                      running <──resume── paused <──park── pausing <──pause── running

Whatever changes a status goes through ``advance``. There is no other way, and no I/O here.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

from orchestrator.errors import IllegalTransition
from orchestrator.model import RunStatus, StopSource

if TYPE_CHECKING:
    from collections.abc import Mapping


class Move(StrEnum):
    """What can happen to a run."""

    START = "start"
    PAUSE = "pause"
    PARK = "park"
    RESUME = "resume"
    STOP = "stop"
    SUCCEED = "succeed"
    FAIL = "fail"
    SETTLE = "settle"
    TIME_OUT = "time out"
    ABANDON = "be abandoned"
    LOSE = "be lost"


class Ending(StrEnum):
    """How an agent's code was left."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


_ENDS = {
    Move.SUCCEED: RunStatus.SUCCEEDED,
    Move.FAIL: RunStatus.FAILED,
    Move.LOSE: RunStatus.LOST,
}

TRANSITIONS: Mapping[RunStatus, Mapping[Move, RunStatus]] = MappingProxyType(
    {
        # A queued run is stopped in one step: its agent's code never runs.
        RunStatus.QUEUED: {
            Move.START: RunStatus.RUNNING,
            Move.STOP: RunStatus.STOPPED,
            Move.TIME_OUT: RunStatus.TIMED_OUT,
        },
        RunStatus.RUNNING: {
            Move.PAUSE: RunStatus.PAUSING,
            Move.STOP: RunStatus.STOPPING,
            **_ENDS,
        },
        RunStatus.PAUSING: {
            Move.PARK: RunStatus.PAUSED,
            Move.RESUME: RunStatus.RUNNING,
            Move.STOP: RunStatus.STOPPING,
            **_ENDS,
        },
        RunStatus.PAUSED: {
            Move.RESUME: RunStatus.RUNNING,
            Move.STOP: RunStatus.STOPPING,
            Move.LOSE: RunStatus.LOST,
        },
        # A second stop tightens the first one, so the status stays.
        RunStatus.STOPPING: {
            Move.STOP: RunStatus.STOPPING,
            Move.SETTLE: RunStatus.STOPPED,
            Move.TIME_OUT: RunStatus.TIMED_OUT,
            Move.SUCCEED: RunStatus.SUCCEEDED,
            Move.ABANDON: RunStatus.ABANDONED,
            Move.LOSE: RunStatus.LOST,
        },
        **{status: {} for status in RunStatus if status.is_terminal},
    }
)


def advance(status: RunStatus, move: Move) -> RunStatus:
    """Return the status that follows.

    Raises:
        IllegalTransition: the table has no such arrow.
    """
    following = TRANSITIONS[status].get(move)
    if following is None:
        raise IllegalTransition(status, move)
    return following


def settle(ending: Ending, stop: StopSource | None) -> Move:
    """Decide how a run ends whose every task has exited.

    Stop then natural finish is a success; an error raised while stopping is still a stop.

    Args:
        ending: how the agent's code was left. ``CANCELLED`` without a stop cannot occur: whoever
            finds a run cancelled from outside first records that as a stop by its parent.
        stop: who asked for the stop, if anybody did.
    """
    match ending:
        case Ending.RETURNED:
            return Move.SUCCEED
        case Ending.RAISED | Ending.CANCELLED if stop is not None:
            return Move.TIME_OUT if stop is StopSource.DEADLINE else Move.SETTLE
        case Ending.RAISED:
            return Move.FAIL
        case Ending.CANCELLED:
            raise AssertionError("a cancelled run must have a stop on record")
        case _:
            assert_never(ending)


_ACTIONS = {Move.STOP: "stop", Move.PAUSE: "pause", Move.RESUME: "resume"}


def available_actions(status: RunStatus) -> tuple[str, ...]:
    """Return what a client may ask of a run in this status, so that none has to guess."""
    possible = [name for move, name in _ACTIONS.items() if move in TRANSITIONS[status]]
    if status is RunStatus.PAUSED:
        possible.append("step")
    return tuple(possible) if not status.is_terminal else ("rerun",)
