"""The asynchronous client: over real servers, one that dies, and ones that say to come later."""

from __future__ import annotations

import inspect
import re
import socket
import time
from contextlib import ExitStack
from functools import partial, partialmethod
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from outcome import acapture

from api.client import AsyncClient, CallRefused, Client, ServerGone, TokenRefused
from api.sse import ending_of
from orchestrator import (
    IllegalTransition,
    InvalidInput,
    NobodyAsks,
    Orchestrator,
    RunEnded,
    RunStatus,
    StopOutcome,
    UnknownRun,
)
from tests.api.processes import quiesce
from tests.api.test_client import RUN, Script, answer, event, framed, run_json, stream, threaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from orchestrator import Event


@pytest.fixture
async def asking(url: str) -> AsyncIterator[AsyncClient]:
    with trio.fail_after(60):
        async with AsyncClient(url) as opened:
            yield opened


async def all_events(client: AsyncClient, run_id: str, **more: Any) -> list[Event]:
    async with client.events(run_id, **more) as events:
        return [each async for each in events]


async def test_starts_a_run_and_brings_all_of_it(asking: AsyncClient) -> None:
    run = await asking.start("echo", {"text": "hello"}, {"tags": ["a"]})
    ended = await asking.wait(run.id)
    assert (ended.record.status, ended.record.result) == (RunStatus.SUCCEEDED, "hello")
    assert (ended.record.tags, ended.partial) == (("a",), {"text": "h"})
    assert [each.name for each in await asking.artifacts(run.id)] == ["text.txt"]
    assert await asking.artifact(run.id, "text.txt") == b"hello"
    assert [each.id for each in (await asking.runs(agent="echo"))[0]] == [run.id]
    again = await asking.rerun(run.id)
    assert again.record.rerun_of == run.id
    await asking.wait(again.id)
    await asking.delete(run.id)
    with pytest.raises(UnknownRun):
        await asking.get(run.id)


async def test_a_start_under_a_key_happens_once(asking: AsyncClient) -> None:
    first = await asking.start("echo", {"text": "x"}, key="one")
    second = await asking.start("echo", {"text": "x"}, key="one")
    other = await asking.start("echo", {"text": "x"}, key="two")
    assert first.id == second.id != other.id


async def test_a_stop_says_whether_the_run_has_ended(asking: AsyncClient) -> None:
    run = await asking.start("busy")
    stopping = await asking.stop(run.id, grace_s=60)
    assert stopping.record.status is RunStatus.STOPPING
    stopped = await asking.stop(run.id, mode="now", reason="enough", wait_s=30, discard=True)
    assert stopped.record.status is RunStatus.STOPPED
    assert stopped.record.stop is not None
    assert [each.discard for each in stopped.record.stop.also] == [True]
    assert stopped.record.stop.outcome is StopOutcome.STOPPED
    ended = await asking.start("echo", {"text": "x"})
    await asking.wait(ended.id)
    with pytest.raises(RunEnded):
        await asking.stop(ended.id)


async def test_stops_many_and_tells_of_each(asking: AsyncClient) -> None:
    runs = [await asking.start("sleeper") for _ in range(3)]
    ids = [runs[0].id, "run_no"]
    first, unknown = await asking.stop_many(ids, mode="now", wait_s=30, discard=True)
    assert (first.run_id, first.status, first.problem) == (runs[0].id, 200, None)
    assert first.run is not None
    assert first.run.record.status is RunStatus.STOPPED
    assert first.run.record.stop is not None
    assert first.run.record.stop.discard
    assert (unknown.status, unknown.run) == (404, None)
    assert unknown.problem is not None
    rest = await asking.stop_many(where={"agent": "sleeper"}, mode="now", wait_s=30)
    assert {each.run_id for each in rest} == {each.id for each in runs[1:]}
    with pytest.raises(CallRefused, match="either `ids` or `filter`"):
        await asking.stop_many()
    nothing: Any = {"tag": None}
    with pytest.raises(InvalidInput, match=r"where\.tag: may not be None"):
        await asking.stop_many(where=nothing)


async def test_pauses_steps_resumes_and_answers(asking: AsyncClient) -> None:
    run = await asking.start("asker", options={"debug": True})
    while (await asking.get(run.id)).record.status is not RunStatus.PAUSED:
        pass
    with pytest.raises(IllegalTransition):
        await asking.pause(run.id)
    assert (await asking.resume(run.id)).record.status is RunStatus.RUNNING
    while (asked := (await asking.get(run.id)).record.waiting_for) is None:
        pass
    with pytest.raises(NobodyAsks):
        await asking.answer(run.id, "q", "yes")
    assert (await asking.move_deadline(run.id, 100)).record.deadline_at is not None
    await asking.answer(run.id, asked.id, "yes")
    assert (await asking.wait(run.id)).record.result == "they said yes"


async def test_halts_and_lifts(asking: AsyncClient) -> None:
    run = await asking.start("sleeper")
    assert (await asking.halt(mode="now", wait_s=30))["runs_stopped"] == 1
    assert (await asking.wait(run.id)).record.status is RunStatus.STOPPED
    assert (await asking.halted())["halt"] is not None
    await asking.lift()
    assert (await asking.halted())["halt"] is None


async def test_schedules_are_made_and_moved(asking: AsyncClient) -> None:
    made = await asking.schedule("sleeper", cron="0 0 1 1 *", id="yearly")
    assert await asking.schedules() == [made]
    assert (await asking.pause_schedule("yearly"))["paused"] is True
    assert (await asking.resume_schedule("yearly"))["paused"] is False
    await asking.unschedule("yearly")
    assert await asking.schedules() == []


async def test_deliveries_are_listed_and_one_that_is_unknown_is_said_to_be(
    asking: AsyncClient,
) -> None:
    assert await asking.deliveries(state="dead") == ([], None)
    with pytest.raises(CallRefused, match="no delivery 'msg_none'"):
        await asking.retry_delivery("msg_none")


def test_both_clients_can_ask_the_same() -> None:
    def calls(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert calls(AsyncClient) == calls(Client)


async def test_events_come_once_up_to_the_end(asking: AsyncClient) -> None:
    run = await asking.start("echo", {"text": "x"})
    events = await all_events(asking, run.id)
    assert [each.seq for each in events] == list(range(1, len(events) + 1))
    assert ending_of(events[-1]) is RunStatus.SUCCEEDED
    assert await all_events(asking, run.id, after=3) == events[3:]
    assert await all_events(asking, run.id, after=1000) == []
    with pytest.raises(UnknownRun):
        await all_events(asking, "run_no")


@pytest.mark.slow
async def test_a_stream_may_be_left_at_any_event(asking: AsyncClient, served: Orchestrator) -> None:
    run = await asking.start("sleeper", options={"on_disconnect": "stop"})
    async with asking.events(run.id) as events:
        async for _ in events:
            break
    # The server has noticed: nobody watches the run any more, so it ends.
    assert (await asking.wait(run.id)).record.stop.source == "disconnect"  # type: ignore[union-attr]


@pytest.mark.slow
async def test_a_cancelled_reader_leaves_too(asking: AsyncClient) -> None:
    run = await asking.start("sleeper", options={"on_disconnect": "stop"})
    with trio.move_on_after(0.5) as scope:
        await all_events(asking, run.id)
    assert scope.cancelled_caught
    assert (await asking.wait(run.id)).record.stop.source == "disconnect"  # type: ignore[union-attr]


async def test_it_serves_asyncio_too(url: str) -> None:
    async def ask() -> tuple[Any, int]:
        async with AsyncClient(url) as client:
            run = await client.start("echo", {"text": "x"})
            events = await all_events(client, run.id)
            return (await client.wait(run.id)).record.result, len(events)

    with trio.fail_after(60):
        result, count = await threaded(anyio.run, ask)
    assert result == "x"
    assert count > 3


AGENT = """
from orchestrator import Context, agent

@agent
async def ticker(ctx: Context) -> None:
    for number in range(1_000_000):
        await ctx.emit("number.said", {"number": number})
        await ctx.sleep(0.01)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
    return number


@pytest.mark.slow
async def test_a_server_that_is_killed_and_started_again_in_mid_stream(
    tmp_path: Path, port: int
) -> None:
    (tmp_path / "agents.py").write_text(AGENT)
    serve = ("serve", "--agents", "agents.py", "--store", "sqlite:///runs.db", "--port", str(port))
    lost: list[None] = []
    read: list[Event] = []
    with trio.fail_after(120), ExitStack() as servers:
        process = servers.enter_context(quiesce(*serve, cwd=tmp_path))
        await threaded(process.until, "listening")
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            run = await client.start("ticker")
            async with client.events(run.id, on_lost=partial(lost.append, None)) as events:
                async for each in events:
                    read.append(each)
                    if each.seq == 30:
                        process.popen.kill()
                        await threaded(process.popen.wait)
                        process = servers.enter_context(quiesce(*serve, cwd=tmp_path))
                        await threaded(process.until, "listening")
    assert [each.seq for each in read] == list(range(1, len(read) + 1))
    assert ending_of(read[-1]) is RunStatus.LOST
    assert len(lost) == 1


def refusing(status: str, after: str) -> bytes:
    body = answer(status, {"type": "urn:quiesce:queue-full", "detail": "full"})
    head, _, rest = body.partition(b"\r\n")
    return head + f"\r\nRetry-After: {after}\r\n".encode() + rest


class Bodies(Script):
    """A script for requests that may have a body."""

    async def serve(self, stream: trio.SocketStream) -> None:
        request = b""
        while True:
            head, found, body = request.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if found and len(body) >= (int(length[1]) if length else 0):
                break
            request += await stream.receive_some()
        self.asked.append(request.decode().lower())
        await stream.send_all(self.answers.pop(0))


class Asked:
    """Either client of a scripted server."""

    def __init__(self, script: Script, kind: type[Client] | type[AsyncClient]) -> None:
        self.script = script
        self.kind = kind

    async def do(self, verb: str, *args: Any, **more: Any) -> Any:
        """Return what the call returns; what it raises comes plain."""
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(trio.serve_tcp, self.script.serve, 0)
                url = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
                result = await acapture(partial(self._ask, url, verb, *args, **more))
                nursery.cancel_scope.cancel()
        return result.unwrap()

    async def _ask(self, url: str, verb: str, *args: Any, **more: Any) -> Any:
        if self.kind is Client:
            with Client(url) as client:
                return await threaded(getattr(client, verb), *args, **more)
        async with AsyncClient(url) as asking:
            return await getattr(asking, verb)(*args, **more)


BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


@BOTH
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_what_may_be_asked_twice_is_asked_again_when_the_server_says_when(
    kind: type[Client], status: str
) -> None:
    for verb, args, more in (("get", (RUN,), {}), ("start", ("a",), {"key": "k"})):
        script = Bodies(
            refusing(status, "0"), refusing(status, "0"), answer("200 OK", run_json("running"))
        )
        view = await Asked(script, kind).do(verb, *args, **more)
        assert view.id == RUN
        assert script.answers == []
        assert [("idempotency-key: k" in each) for each in script.asked] == [bool(more)] * 3


@BOTH
@pytest.mark.parametrize(
    ("verb", "args"),
    [("start", ("a",)), ("stop", (RUN,)), ("pause", (RUN,)), ("stop_many", ([RUN],))],
)
async def test_what_may_not_is_asked_once(
    kind: type[Client], verb: str, args: tuple[Any, ...]
) -> None:
    script = Bodies(refusing("503 Service Unavailable", "0"), b"")
    with pytest.raises(CallRefused) as refused:
        await Asked(script, kind).do(verb, *args)
    assert refused.value.status == 503
    assert len(script.asked) == 1


@BOTH
@pytest.mark.parametrize("after", ["60", "", "-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_nobody_waits_for_long_or_for_what_is_no_number(
    kind: type[Client], after: str
) -> None:
    script = Bodies(refusing("503 Service Unavailable", after), b"")
    with pytest.raises(CallRefused):
        await Asked(script, kind).do("get", RUN)
    assert len(script.asked) == 1


@BOTH
async def test_it_is_asked_for_half_a_minute_at_most(
    kind: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.transport.RETRIED_S", 0.45)
    script = Bodies(*[refusing("503 Service Unavailable", "0")] * 9)
    with pytest.raises(CallRefused):
        await Asked(script, kind).do("get", RUN)
    assert len(script.asked) == 5


async def test_a_lost_stream_is_resumed_from_the_last_event_and_nothing_comes_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.sse.RETRY_S", 0.01)
    script = Script(
        stream(framed(event(1), event(2)), whole=False),
        stream(framed(event(2), event(3)) + b"id: 4\ndata: {", whole=False),
        b"",
        stream(framed(event(4))),
        answer("200 OK", run_json("running")),
        stream(framed(event(4), event(5, "run.succeeded"), event(6))),
    )
    lost: list[None] = []

    async def follow(client: AsyncClient) -> list[int]:
        return [
            each.seq for each in await all_events(client, RUN, on_lost=partial(lost.append, None))
        ]

    monkeypatch.setattr(AsyncClient, "follow", follow, raising=False)
    assert await Asked(script, AsyncClient).do("follow") == [1, 2, 3, 4, 5]
    assert script.answers == []
    assert len(lost) == 2


async def follow(kind: type[Client], script: Script) -> list[int]:
    """Return the numbers of the events that either client is told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "follow", _follow, raising=False)
        patch.setattr(AsyncClient, "follow", partialmethod(all_events, RUN), raising=False)
        events: list[Event] = await Asked(script, kind).do("follow")
    return [each.seq for each in events]


def _follow(client: Client) -> list[Event]:
    return list(client.events(RUN))


@BOTH
async def test_a_lost_stream_waits_for_who_is_full_or_started_again_behind_a_proxy(
    kind: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sse.RETRY_S", 0.01)
    script = Script(
        stream(framed(event(1)), whole=False),
        answer("502 Bad Gateway", "<html>", "text/html"),
        refusing("503 Service Unavailable", "1"),
        refusing("429 Too Many Requests", "1"),
        stream(framed(event(2, "run.succeeded"))),
    )
    assert await follow(kind, script) == [1, 2]


@BOTH
async def test_a_stream_that_ends_early_is_not_made_again_at_once(
    kind: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sse.RETRY_S", 0.2)
    early = [stream(b""), answer("200 OK", run_json("running"))]
    began = time.monotonic()
    script = Script(*early, *early, stream(framed(event(1, "run.succeeded"))))
    assert await follow(kind, script) == [1]
    assert time.monotonic() - began >= 0.4


@BOTH
@pytest.mark.parametrize(
    "said", [answer("302 Found", ""), answer("200 OK", "<html>log in", "text/html")]
)
async def test_the_page_of_somebody_in_front_is_no_success(kind: type[Client], said: bytes) -> None:
    with pytest.raises(CallRefused, match="does not answer like a server"):
        await follow(kind, Script(said))
    for verb, args in (("delete", (RUN,)), ("lift", ()), ("unschedule", ("s",))):
        with pytest.raises(CallRefused, match="does not answer like a server"):
            await Asked(Bodies(said), kind).do(verb, *args)


@BOTH
@pytest.mark.parametrize("said", ["soon", "[1]", "{}", "[" * 100_000])
async def test_a_stream_that_brings_no_events_is_somebody_elses(
    kind: type[Client], said: str
) -> None:
    script = Script(stream(framed(event(1, "run.started")) + f"data: {said}\n\n".encode()))
    with pytest.raises(CallRefused, match="does not answer like a server"):
        await follow(kind, script)


async def test_what_cannot_be_read_is_an_error_of_ours() -> None:
    packed = answer("200 OK", "not packed").replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1)
    with pytest.raises(ServerGone):
        await Asked(Bodies(packed), Client).do("get", RUN)


@BOTH
async def test_a_refusal_with_a_status_that_only_a_later_server_has(kind: type[Client]) -> None:
    later = {"type": "urn:quiesce:run-ended", "run_id": RUN, "run_status": "evaporated"}
    with pytest.raises(CallRefused) as refused:
        await Asked(Bodies(answer("409 Conflict", later)), kind).do("stop", RUN)
    assert refused.value.problem == later


async def test_nobody_there_and_no_token() -> None:
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        async with AsyncClient(f"127.0.0.1:{closed.getsockname()[1]}") as client:
            for ask in (
                client.agents,
                partial(client.start, "a"),
                partial(all_events, client, RUN),
            ):
                with pytest.raises(ServerGone):
                    await ask()
    script = Script(answer("401 Unauthorized", {"type": "urn:quiesce:no-token"}))
    with pytest.raises(TokenRefused):
        await Asked(script, AsyncClient).do("agents")
