"""Questions to people: durable, checked, withdrawn by a stop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trio

from orchestrator import (
    Context,
    InvalidInput,
    NobodyAsks,
    NotAnswered,
    OperationsAreLeaves,
    Orchestrator,
    Run,
    RunStatus,
    StopOutcome,
    agent,
    open_orchestrator,
)
from orchestrator.errors import AgentStopped
from tests.orchestrator.test_steps import OddStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock


@agent
async def asker(ctx: Context, question: str = "Shall I?", within_s: float | None = None) -> Any:
    """Ask, and return the answer."""
    return await ctx.ask(question, Literal["yes", "no"], within_s=within_s)


async def asked(run: Run) -> str:
    """Wait until the run asks, and return the question's id."""
    while run.record.waiting_for is None:
        await trio.sleep(0.01)
    return run.record.waiting_for.id


async def test_an_answer_is_returned_and_the_question_is_gone(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(asker)
    question_id = await asked(run)
    question = run.record.waiting_for
    assert question is not None
    assert (question.question, question.until_at) == ("Shall I?", None)
    assert question.schema == {"enum": ["yes", "no"], "type": "string"}
    await trio.sleep(1_000)
    run.answer(question_id, "yes", answered_by="anna")
    record = await run.wait()
    assert (record.result, record.waiting_for) == ("yes", None)
    events = await orchestrator.store.events(run.id, after=0, limit=100)
    told = {event.type: event.data for event in events}
    assert told["run.asked"]["question_id"] == question_id
    assert told["run.answered"] == {
        "question_id": question_id,
        "answer": "yes",
        "answered_by": "anna",
    }


async def test_an_answer_that_does_not_fit_leaves_the_question_open(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(asker)
    question_id = await asked(run)
    with pytest.raises(InvalidInput, match="answer: Input should be 'yes' or 'no'"):
        run.answer(question_id, "perhaps")
    with pytest.raises(InvalidInput, match="answer: is not JSON"):
        run.answer(question_id, object())
    assert await asked(run) == question_id
    run.answer(question_id, "no")
    with pytest.raises(NobodyAsks, match=question_id):
        run.answer(question_id, "yes")
    assert (await run.wait()).result == "no"


async def test_an_answer_is_checked_against_a_json_schema(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def chooser(ctx: Context) -> Any:
        return await ctx.ask(
            "Which?", {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
        )

    run = await orchestrator.start(chooser)
    question_id = await asked(run)
    with pytest.raises(InvalidInput, match=r"answer\.n: 0 is less than the minimum of 1"):
        run.answer(question_id, {"n": 0})
    run.answer(question_id, {"n": 1})
    assert (await run.wait()).result == {"n": 1}


@pytest.mark.parametrize("wanted", [{"type": 5}, object()], ids=["schema", "no type"])
async def test_a_shape_that_is_none_is_refused_at_the_call(
    orchestrator: Orchestrator, autojump_clock: MockClock, wanted: object
) -> None:
    @agent
    async def wrong(ctx: Context) -> Any:
        return await ctx.ask("Which?", wanted)

    record = await (await orchestrator.start(wrong)).wait()
    assert record.error is not None
    assert record.error.type == "InvalidInput"
    assert record.error.message.startswith("schema: is n")


async def test_a_question_times_out(orchestrator: Orchestrator, autojump_clock: MockClock) -> None:
    run = await orchestrator.start(asker, {"within_s": 60})
    began = trio.current_time()
    record = await run.wait()
    assert trio.current_time() - began == pytest.approx(60, abs=0.1)
    assert record.error is not None
    assert record.error.type == NotAnswered.__name__
    assert record.error.message == "nobody answered within 60 s: Shall I?"


@pytest.mark.parametrize(
    "within_s",
    [0, -1, float("inf"), float("nan"), 1e12, pytest.param(10**5_000, id="digits"), "5", True],
)
async def test_a_time_that_is_none_is_refused(
    orchestrator: Orchestrator, autojump_clock: MockClock, within_s: float
) -> None:
    @agent
    async def wrong(ctx: Context) -> Any:
        return await ctx.ask("?", within_s=within_s)

    record = await (await orchestrator.start(wrong)).wait()
    assert record.error is not None
    assert "within_s" in record.error.message


@pytest.mark.parametrize("mode", ["graceful", "now", "kill"])
async def test_a_stop_withdraws_the_question_at_once(
    orchestrator: Orchestrator, autojump_clock: MockClock, mode: str
) -> None:
    run = await orchestrator.start(asker)
    question_id = await asked(run)
    began = trio.current_time()
    run.request_stop(mode=mode)
    with pytest.raises(NobodyAsks):
        run.answer(question_id, "yes")
    receipt = await run.stop(mode=mode)
    assert trio.current_time() - began < 0.1
    assert receipt.outcome is StopOutcome.STOPPED
    assert run.record.waiting_for is None
    with pytest.raises(NobodyAsks):
        run.answer(question_id, "yes")


async def test_a_critical_section_that_asks_has_its_answer_after_the_stop(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    answers: list[Any] = []

    @agent
    async def careful(ctx: Context) -> None:
        with ctx.critical("commit", 10):
            answers.append(await ctx.ask("really?"))

    run = await orchestrator.start(careful)
    question_id = await asked(run)
    run.request_stop(mode="now")
    run.answer(question_id, "yes")
    await run.wait()
    assert answers == ["yes"]


async def test_questions_that_are_open_at_once_are_shown_in_turn(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def two(ctx: Context) -> list[str]:
        answers = ["", ""]

        async def ask(n: int) -> None:
            await trio.sleep(n)
            answers[n] = await ctx.ask("The same?", str)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 0)
            nursery.start_soon(ask, 1)
        return answers

    run = await orchestrator.start(two)
    await trio.sleep(5)
    events = await orchestrator.store.events(run.id, after=0, limit=100)
    first, second = (e.data["question_id"] for e in events if e.type == "run.asked")
    assert first != second
    assert await asked(run) == first
    run.answer(second, "b")
    assert await asked(run) == first
    run.answer(first, "a")
    assert (await run.wait()).result == ["a", "b"]


async def test_no_question_within_an_operation(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def wrong(ctx: Context) -> None:
        async with ctx.operation("op"):
            await ctx.ask("?")

    record = await (await orchestrator.start(wrong)).wait()
    assert record.error is not None
    assert record.error.type == OperationsAreLeaves.__name__


async def test_a_run_that_waits_can_be_paused_and_answered(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(asker, idle_timeout_s=10)
    question_id = await asked(run)
    await trio.sleep(100)
    run.request_pause()
    assert run.record.status is RunStatus.PAUSED
    run.answer(question_id, "yes")
    await trio.sleep(100)
    assert run.record.status is RunStatus.PAUSED
    run.request_resume()
    assert (await run.wait()).result == "yes"


async def test_a_step_takes_a_debugged_run_to_its_question(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(asker, debug=True)
    await trio.sleep(1)
    run.request_step()
    question_id = await asked(run)
    await trio.sleep(1)
    assert run.record.status is RunStatus.PAUSED
    run.answer(question_id, "yes")
    run.request_resume()
    assert (await run.wait()).result == "yes"


async def test_a_child_that_asks_is_stopped_alone(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def parent(ctx: Context) -> str:
        try:
            await ctx.call(asker)
        except AgentStopped as error:
            return f"{error.receipt.reason}: I decide myself"
        return "answered"

    run = await orchestrator.start(parent)
    await trio.sleep(1)
    (child,) = run.children
    child.request_stop(reason="nobody is there")
    assert (await run.wait()).result == "nobody is there: I decide myself"


async def test_an_agent_has_its_answer_once_that_is_stored(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Interleaving: the store holds the answer. Nobody may act on what a crash could take back."""
    store, got = OddStore(), []

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[OddStore]:
        yield store

    @agent
    async def acting(ctx: Context) -> None:
        got.append(await ctx.ask("Shall I?", Literal["yes", "no"]))

    monkeypatch.setattr("orchestrator.runtime.open_store", opened)
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(acting)
        question_id = await asked(run)
        store.held = trio.Event()
        run.answer(question_id, "yes", answered_by="anna")
        await trio.sleep(10)
        assert got == []
        store.held.set()
        await run.wait()
    assert got == ["yes"]


async def test_answers_survive_a_rerun_and_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    @agent
    async def twice(ctx: Context) -> list[Any]:
        first = await ctx.ask("First?", int)
        return [first, await ctx.ask("Second?", int)]

    with trio.fail_after(30):
        async with open_orchestrator(url, agents=[twice]) as orchestrator:
            run = await orchestrator.start(twice)
            run.answer(await asked(run), 1)
            second = await asked(run)
            await run.stop()
            again = await orchestrator.rerun(run.id, from_step="last")
            assert again.record.rerun_of == run.id
            assert await asked(again) == second
            again.answer(second, 2)
            assert (await again.wait()).result == [1, 2]
            anew = await orchestrator.rerun(run.id)
            await asked(anew)
            assert anew.record.waiting_for is not None
            assert anew.record.waiting_for.question == "First?"
            await anew.stop()
