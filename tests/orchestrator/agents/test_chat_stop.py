"""Conversations that are stopped, and continued by the next run. In virtual time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, Orchestrator, Run, RunStatus, agent, open_orchestrator
from orchestrator.agents._chat import book
from orchestrator.agents.chat import chat
from orchestrator.testing import VirtualTime, at_points, run_stop_sweep
from tests.orchestrator.agents.chatting import (
    NAMES,
    TOOLS,
    results_in,
    said,
    stored,
)
from tests.orchestrator.agents.chatting import llm as llm
from tests.orchestrator.agents.chatting import orchestrator as orchestrator

if TYPE_CHECKING:
    from trio.testing import MockClock

    from orchestrator import RunRecord
    from orchestrator.testing import ScriptedHTTP, ScriptedLLM

UNKNOWN = "before this tool finished; its effects are unknown"


async def begin(orchestrator: Orchestrator, parallel_tools: int = 3, **options: Any) -> Run:
    given = {"message": "hi", "tools": NAMES, "parallel_tools": parallel_tools}
    return await orchestrator.start(chat, given, owner="ann", **options)


async def stop(run: Run, **how: Any) -> RunRecord:
    """Stop a run two seconds after its start, or let its deadline do that."""
    await trio.sleep(2)
    if how:
        run.request_stop(**how)
    return await run.wait()


def call_four_tools(llm: ScriptedLLM) -> None:
    """When the stop comes, the first has finished, two are under way, and one has not begun."""
    llm.call_tools(
        ("measure", {"seconds": 1}),
        ("measure", {"seconds": 5}),
        ("weather", {"city": "Oslo", "seconds": 100}),
        ("weather", {"city": "Rome", "seconds": 100}),
        ("weather", {"city": "Bern", "seconds": 100}),
    )


# Between tool calls and their results


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"mode": "graceful", "reason": "tea: now"}, "stopped by user (tea: now)"),
        ({"mode": "now"}, "stopped by user"),
        ({"mode": "kill", "reason": "enough"}, "stopped by user (enough)"),
        ({}, "stopped by deadline (its deadline, *, is over)"),
    ],
    ids=["graceful", "now", "kill", "deadline"],
)
async def test_interrupted_tools_have_a_result_that_says_so(
    how: dict[str, Any],
    words: str,
    orchestrator: Orchestrator,
    llm: ScriptedLLM,
    autojump_clock: MockClock,
) -> None:
    call_four_tools(llm)
    llm.say("Let us go on")
    options = {} if how else {"deadline_s": 2}
    record = await stop(await begin(orchestrator, **options), **how)
    assert record.status is (RunStatus.STOPPED if how else RunStatus.TIMED_OUT)
    assert record.stop is not None
    assert record.stop.cleanup_errors == ()
    messages = await stored(orchestrator, record.id)
    graceful = how.get("mode") in ("graceful", None)
    unknown = f"interrupted: the run was {words} {UNKNOWN}"
    assert [re.sub(r"20\d\d-.*?Z", "*", each) for each in results_in(messages)] == [
        "21 °C",
        # In flight in an operation: that is what a grace is for.
        "21 °C" if graceful else unknown,
        unknown,
        unknown,
        f"interrupted: the run was {words} before this tool began; it did nothing",
    ]
    partial = await orchestrator.partial(record.id)
    assert (partial["conversation"], partial["messages"]) == (record.id, len(messages))
    found = await said(orchestrator, "Go on", conversation=record.id)
    assert found["reply"] == "Let us go on"
    user = {"role": "user", "content": "Go on"}
    assert llm.requests[-1]["messages"] == [*messages, user]


async def test_a_stop_while_a_tool_finishes_keeps_its_result(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    """Interleaving: the tool has returned, and closes its client, when the stop comes."""

    @agent
    async def says(ctx: Context) -> str:
        run.request_stop(mode="now")
        return "just in time"

    orchestrator.agents.add(says)
    llm.call_tools(("says", {}))
    run = await orchestrator.start(chat, {"message": "hi", "tools": ["says"]}, owner="ann")
    await run.wait()
    assert results_in(await stored(orchestrator, run.id)) == ["just in time"]


async def test_a_tool_that_fails_while_it_is_stopped(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    @agent
    async def clumsy(ctx: Context) -> None:
        try:
            await ctx.sleep(100)
        finally:
            raise OSError("and now this")

    orchestrator.agents.add(clumsy)
    llm.call_tools(("clumsy", {}))
    run = await orchestrator.start(chat, {"message": "hi", "tools": ["clumsy"]}, owner="ann")
    record = await stop(run, reason="tea")
    assert record.status is RunStatus.STOPPED
    [result] = results_in(await stored(orchestrator, run.id))
    assert result == (
        "interrupted: sub-agent clumsy was stopped by parent (tea) before it finished;"
        " its effects are unknown"
    )


async def test_a_tool_that_stays_is_let_go_and_the_conversation_goes_on(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    orchestrator.agents.add(stubborn)
    llm.call_tools(("measure", {"seconds": 1}), ("stubborn", {}))
    llm.say("fine")
    run = await orchestrator.start(
        chat, {"message": "hi", "tools": ["measure", "stubborn"]}, owner="ann"
    )
    record = await stop(run, mode="now", reason="tea")
    assert record.status is RunStatus.ABANDONED
    messages = await stored(orchestrator, run.id)
    assert results_in(messages) == ["21 °C", f"interrupted: the run was stopped {UNKNOWN}"]
    assert (await said(orchestrator, "Go on", conversation=run.id))["reply"] == "fine"
    release.set()
    await run.exited.wait()
    assert (await stored(orchestrator, run.id))[: len(messages)] == messages


async def test_an_error_while_it_stops_leaves_the_conversation_to_the_run(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    held: list[bool] = []

    @agent
    async def fails(ctx: Context) -> None:
        await ctx.sleep(1)
        with book.holding(ctx, "c"):
            ctx.on_stop(lambda: held.append("c" in book._holders))
            run.request_stop()
            raise ValueError

    run = await orchestrator.start(fails)
    await run.wait()
    assert held == [True]
    assert book._holders == {}


async def test_results_that_come_at_once_are_all_stored(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: two writes of a page wait for the end of a pause, and go on in any order."""
    asked = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]

    @agent
    async def writes(ctx: Context) -> None:
        await ctx.sleep(1)
        run.request_pause()
        pages = book.Book(ctx, ctx.run_id)
        async with trio.open_nursery() as nursery:
            for message in asked:
                pages.add([message])
                nursery.start_soon(pages.save)
                await trio.sleep(1)

    for _ in range(10):
        run = await orchestrator.start(writes, owner="ann")
        await trio.sleep(10)
        run.request_resume()
        await run.wait()
        assert await stored(orchestrator, run.id) == asked


# During a call of the model


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("mode", ["graceful", "now", "kill"])
async def test_a_stop_during_an_answer(
    mode: str,
    stream: bool,
    orchestrator: Orchestrator,
    llm: ScriptedLLM,
    autojump_clock: MockClock,
) -> None:
    llm.say("Hello!")
    llm.say("one ", "two", delay_s=5)
    llm.say("three")
    found = (await said(orchestrator, "a"))["conversation"]
    given = {"message": "b", "conversation": found, "stream": stream}
    record = await stop(await orchestrator.start(chat, given, owner="ann"), mode=mode)
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.error is None
    texts = [m["content"] for m in await stored(orchestrator, found)]
    partial = await orchestrator.partial(record.id)
    if mode == "graceful":
        assert texts == ["a", "Hello!", "b", "one two"]
        assert (partial["reply"], partial["turns"]) == ("one two", 1)
        assert trio.current_time() == 5
    else:
        assert texts == ["a", "Hello!", "b"]
        assert (partial["reply"], partial["turns"]) == (None, 0)
        assert trio.current_time() == 2
        result = await said(orchestrator, None, conversation=found)
        assert result["reply"] == "three"


async def test_a_graceful_stop_begins_none_of_the_tools_that_the_answer_asks_for(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    llm.call_tools(("measure", {"seconds": 1}), ("broken", {}), ("nobody", {}), delay_s=5)
    record = await stop(await begin(orchestrator), reason="tea")
    [_, answer, *results] = await stored(orchestrator, record.id)
    assert len(answer["tool_calls"]) == 3
    never = "interrupted: the run was stopped by user (tea) before this tool began; it did nothing"
    wrong = "error: no tool is named 'nobody'; tools: broken, measure, weather"
    assert [each["content"] for each in results] == [never, never, wrong]
    assert [each.agent for each in await orchestrator.tree(record.id)] == ["chat"]


# What a stop may take along


async def test_discard_takes_what_the_run_had_added_and_nothing_else(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    llm.say("Hello!")
    call_four_tools(llm)
    llm.say("fine")
    found = (await said(orchestrator, "a"))["conversation"]
    before = await stored(orchestrator, found)
    given = {"message": "b", "conversation": found, "tools": NAMES}
    await stop(await orchestrator.start(chat, given, owner="ann"), discard=True)
    assert await stored(orchestrator, found) == before
    await said(orchestrator, "c", conversation=found)


async def test_a_stopped_run_goes_on_in_a_rerun(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    """What had finished is not done again; what had not, is."""
    call_four_tools(llm)
    llm.say("fine")
    record = await stop(await begin(orchestrator), mode="now")
    again = await orchestrator.rerun(record.id, from_step="last")
    done = await again.wait()
    assert done.result["reply"] == "fine"
    assert len(llm.requests) == 2
    messages = await stored(orchestrator, again.id)
    assert results_in(messages)[:2] == ["21 °C", "21 °C"]
    assert [json.loads(each)["city"] for each in results_in(messages)[2:]] == [
        "Oslo",
        "Rome",
        "Bern",
    ]
    tree = await orchestrator.tree(again.id)
    assert sorted(each.agent for each in tree) == ["chat", "measure", *["weather"] * 3]


# At every moment


def script(llm: ScriptedLLM) -> None:
    llm.call_tools(
        ("weather", {"city": "Oslo"}),
        ("measure", {"seconds": 1}),
        ("broken", {}),
        text="Let me see",
        delay_s=1,
    )
    llm.call_tools(("weather", {"city": "Bergen"}), text="And there", delay_s=1)
    llm.say("All ", "is ", "clear", delay_s=1, piece_s=0.1)
    llm.say("Yes")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["graceful", "now", "kill"])
def test_the_conversation_is_whole_wherever_the_stop_comes(
    mode: str, scripted_http: ScriptedHTTP, llm: ScriptedLLM
) -> None:
    """Each round is another interleaving, since Trio shuffles tasks on purpose."""
    script(llm)
    seen: list[int] = []

    async def round_(point: int) -> bool:
        scripted_http.restart()
        async with open_orchestrator(agents=TOOLS, transport=scripted_http) as orchestrator:
            run = orchestrator.admit(
                chat, {"message": "hi", "tools": NAMES, "parallel_tools": 2}, owner="ann"
            )

            def stop() -> None:
                if not run.record.status.is_terminal:
                    run.request_stop(mode=mode)

            with at_points({point: stop}) as points:
                record = await run.wait()
            seen.append(points.seen)
            assert record.stop is None or record.stop.cleanup_errors == ()
            assert book._holders == {}
            messages = await stored(orchestrator, run.id)
            if messages:
                await go_on(orchestrator, run.id, messages)
            return points.seen >= point

    async def go_on(orchestrator: Orchestrator, name: str, before: list[Any]) -> None:
        result = await said(orchestrator, "Go on", conversation=name, tools=NAMES)
        after = await stored(orchestrator, name)
        assert after[: len(before)] == before
        assert result["messages"] == len(after)

    point = 0
    while trio.run(round_, point := point + 3, clock=VirtualTime().clock):
        pass
    assert point > 150


@pytest.mark.slow
def test_a_chat_passes_the_stop_sweep(scripted_http: ScriptedHTTP, llm: ScriptedLLM) -> None:
    script(llm)
    given = {"message": "hi", "tools": NAMES, "parallel_tools": 2}
    report = run_stop_sweep(chat, given, agents=TOOLS, transport=scripted_http)
    assert report.complete
    assert all(points > 150 for points in report.points.values())
    assert scripted_http.open == []
