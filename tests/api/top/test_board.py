"""What is known of runs: events and answers in any order, and nothing comes back to life."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api.top.board import KEPT_ENDED, Board
from orchestrator import Event, Progress, RunId, RunRecord, RunStatus

RUN = RunId("run_1")
AT = "2026-11-21T12:00:00.000Z"
LIVE = [status for status in RunStatus if not status.is_terminal]
OVER = [status for status in RunStatus if status.is_terminal]


def record(status: RunStatus = RunStatus.RUNNING, **more: Any) -> RunRecord:
    run = RunRecord(id=RUN, agent="writer", root_id=RUN, status=status, created_at=AT)
    return replace(run, **more)


def event(kind: str, run_id: str = RUN, **data: Any) -> Event:
    return Event(seq=1, run_id=RunId(run_id), root_id=RunId(run_id), type=kind, at=AT, data=data)


def ended(status: RunStatus) -> Event:
    return event(f"run.{status}", status=str(status), result=None, error=None, receipt=None)


def status_of(board: Board) -> RunStatus:
    run = board.get(RUN)
    assert run is not None
    return run.status


@pytest.fixture
def board() -> Board:
    made = Board()
    made.put(record(), made.moment)
    return made


@pytest.mark.parametrize("late", LIVE)
@pytest.mark.parametrize("end", OVER)
def test_what_comes_late_brings_no_run_back(board: Board, end: RunStatus, late: RunStatus) -> None:
    board.apply(ended(end))
    board.put(record(late), board.moment)
    for kind in ("started", "resumed", "paused", "stopping"):
        board.apply(event(f"run.{kind}", agent="writer", attempt=1))
    assert status_of(board) is end


def test_what_comes_late_takes_no_stop_back(board: Board) -> None:
    board.apply(event("run.stopping", mode="now"))
    board.put(record(RunStatus.PAUSED), board.moment)
    board.apply(event("run.resumed"))
    assert status_of(board) is RunStatus.STOPPING


def test_an_answer_that_an_event_has_overtaken_gives_way(board: Board) -> None:
    moment = board.moment
    board.apply(event("run.paused"))
    board.apply(event("run.progress", percent=40.0, message="so far"))
    board.put(record(owner="ann", progress=Progress(percent=10)), moment)
    run = board.get(RUN)
    assert run is not None
    assert (run.status, run.progress.percent, run.owner) == (RunStatus.PAUSED, 40, "ann")
    board.put(record(), board.moment)
    assert status_of(board) is RunStatus.RUNNING


def test_a_run_that_came_while_all_was_read_is_not_forgotten(board: Board) -> None:
    moment = board.moment
    board.put(record(id=RunId("run_2"), created_at="2026-11-21T12:00:01.000Z"), moment)
    board.put_all([], moment)
    assert [run.id for run in board.shown()] == ["run_2"]


def test_the_server_is_asked_for_what_events_do_not_say(board: Board) -> None:
    board.apply(event("run.queued", "run_2", agent="writer", parent_id=None))
    board.apply(event("run.queued", "run_3", agent="writer", parent_id="run_2"))
    board.apply(event("run.progress", percent=1.0, message=""))
    assert board.unsaid == {"run_2"}
    board.apply(event("run.stopping", mode="now"))
    assert board.unsaid == {"run_2", RUN}


def test_a_question_is_shown_until_it_is_answered_or_withdrawn(board: Board) -> None:
    asked: dict[str, Any] = {"question": "Really?", "schema": {}, "until_at": None}
    board.apply(event("run.asked", question_id="a", **asked))
    board.apply(event("run.asked", question_id="b", **asked))
    board.apply(event("run.withdrawn", question_id="b"))
    assert [run.id for run in board.shown("really")] == [RUN]
    board.apply(event("run.answered", question_id="a", answer=1, answered_by="ann"))
    assert board.shown("really") == []


def test_words_and_life_sift_the_newest_first(board: Board) -> None:
    later = "2026-11-21T12:00:01.000Z"
    other = record(RunStatus.FAILED, id=RunId("run_2"), created_at=later, owner="Ann")
    board.put(other, board.moment)
    assert [run.id for run in board.shown()] == ["run_2", RUN]
    assert [run.id for run in board.shown("ANN writer")] == ["run_2"]
    assert [run.id for run in board.shown(live=True)] == [RUN]


def test_of_what_has_ended_the_oldest_is_forgotten(board: Board) -> None:
    for number in range(KEPT_ENDED + 5):
        at = f"2026-11-21T11:{number // 60:02}:{number % 60:02}.000Z"
        board.put(record(RunStatus.FAILED, id=RunId(f"run_x{number}"), created_at=at), board.moment)
    board.prune()
    assert len(board.shown()) == KEPT_ENDED + 1
    assert board.get("run_x0") is None
    assert status_of(board) is RunStatus.RUNNING
