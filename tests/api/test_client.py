"""The client: its calls against a real server, and streams against servers that misbehave."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio

from api.client import CallRefused, Client, ServerGone
from api.service import open_server
from api.sse import FrameReader, ending_of, events_in
from orchestrator import (
    ArtifactInfo,
    Context,
    Event,
    IllegalTransition,
    InvalidInput,
    NobodyAsks,
    Orchestrator,
    ParentIsPaused,
    RunEnded,
    RunId,
    RunStatus,
    StopOutcome,
    UnknownRun,
    agent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

T = TypeVar("T")

RUN = "run_1"


@agent
async def count(ctx: Context, n: int) -> int:
    """Count to n."""
    for number in range(n):
        await ctx.emit("number.said", {"number": number, "text": "\u2028\x85é"})
    await ctx.partial({"n": n})
    await ctx.artifact("a b.bin", b"\x00\xff\n", media_type="x/y")
    return n


@agent
async def curious(ctx: Context) -> int:
    """Ask for a number."""
    number: int = await ctx.ask("How many?", int)
    return number


@agent
async def sleeper(ctx: Context) -> None:
    await ctx.call(nap)


@agent
async def nap(ctx: Context) -> None:
    await ctx.sleep(1000)


async def threaded(function: Callable[..., T], *args: Any, **options: Any) -> T:
    return await trio.to_thread.run_sync(
        partial(function, *args, **options), abandon_on_cancel=True
    )


@pytest.fixture
async def client(orchestrator: Orchestrator) -> AsyncIterator[Client]:
    """A client of a real server that has four agents."""
    for each in (count, curious, sleeper, nap):
        orchestrator.agents.add(each)
    with trio.fail_after(10):
        async with open_server(orchestrator) as url:
            with Client(url) as opened:
                yield opened


# Calls


async def test_starts_a_run_and_waits_for_its_result(client: Client) -> None:
    run = await threaded(client.start, "count", {"n": 3}, {"tags": ["a"]})
    ended = await threaded(client.wait, run.id)

    assert ended.record.status is RunStatus.SUCCEEDED
    assert ended.record.result == 3
    assert ended.record.tags == ("a",)
    assert ended.partial == {"n": 3}
    assert ended.json["available_actions"] == ["rerun"]


async def test_a_wait_for_the_end_is_bounded(client: Client) -> None:
    run = await threaded(client.start, "sleeper")
    view = await threaded(client.get, run.id, wait_s=0.05)
    assert view.record.status is RunStatus.RUNNING


async def test_stops_a_run_and_returns_its_receipt(client: Client) -> None:
    run = await threaded(client.start, "sleeper")
    view = await threaded(client.stop, run.id, mode="now", reason="enough", wait_s=5)

    receipt = view.record.stop
    assert receipt is not None
    assert receipt.outcome is StopOutcome.STOPPED
    assert (receipt.mode, receipt.reason, receipt.runs_stopped) == ("now", "enough", 2)
    again = await threaded(client.stop, run.id)
    assert again.record.stop == receipt


async def test_a_stop_with_discard_keeps_nothing_but_the_record(
    client: Client, orchestrator: Orchestrator
) -> None:
    @agent
    async def finder(ctx: Context) -> None:
        await ctx.partial("found")
        found.set()
        await ctx.sleep(1000)

    orchestrator.agents.add(finder)
    partials = []
    for stop in (
        client.stop,
        partial(client.stop, discard=True),
        lambda run_id, wait_s: client.stop_many([run_id], wait_s=wait_s, discard=True),
    ):
        found = trio.Event()
        run = await threaded(client.start, "finder")
        await found.wait()
        await threaded(stop, run.id, wait_s=5)
        partials.append((await threaded(client.get, run.id)).partial)
    assert partials == ["found", None, None]


async def test_a_stop_of_many_without_a_value_to_fit_is_not_even_asked(client: Client) -> None:
    run = await threaded(client.start, "sleeper")
    where: Any = {"agent": "sleeper", "tag": None}
    with pytest.raises(InvalidInput, match=r"where\.tag: may not be None; .*leave it out"):
        await threaded(client.stop_many, where=where)
    assert (await threaded(client.get, run.id)).record.stop is None


async def test_lists_pages_of_runs(client: Client) -> None:
    runs = [await threaded(client.start, "count", {"n": 1}) for _ in range(3)]
    for run in runs:
        await threaded(client.wait, run.id)

    first, following = await threaded(client.runs, limit=2, agent="count", status="succeeded")
    rest, end = await threaded(client.runs, after=following, limit=2, agent="count")
    assert [each.id for each in first + rest] == [run.id for run in reversed(runs)]
    assert end is None
    assert await threaded(client.runs, agent="nobody") == ([], None)
    (brief,), _ = await threaded(client.runs, brief=True, limit=1, agent="count")
    assert brief.record == replace(first[0].record, input=None, result=None)


async def test_a_tree_is_flat_with_parents_first(client: Client) -> None:
    run = await threaded(client.start, "sleeper")
    while len(tree := await threaded(client.tree, run.id)) < 2:
        pass
    assert [each.record.agent for each in tree] == ["sleeper", "nap"]
    assert tree[1].record.parent_id == run.id
    roots, _ = await threaded(client.runs, parent="none")
    assert [each.id for each in roots] == [run.id]


async def test_lists_the_agents(client: Client) -> None:
    found = await threaded(client.agents)
    assert [each["name"] for each in found] == ["count", "curious", "nap", "sleeper"]
    assert found[0]["description"] == "Count to n."


async def test_errors_are_those_of_the_orchestrator(client: Client) -> None:
    for unknown in ("nope", "a/../b", "..", "", "é ?#"):
        with pytest.raises(UnknownRun) as error:
            await threaded(client.get, unknown)
        assert error.value.run_id == unknown
    with pytest.raises(UnknownRun):
        await threaded(list, client.events("nope"))
    run = await threaded(client.start, "count", {"n": 0})
    await threaded(client.wait, run.id)
    with pytest.raises(RunEnded, match="succeeded"):
        await threaded(client.stop, run.id)
    with pytest.raises(CallRefused, match=r"input\.n") as refused:
        await threaded(client.start, "count", {"n": "x"})
    assert refused.value.status == 422
    assert refused.value.problem["errors"][0]["field"] == "input.n"


async def until(client: Client, run_id: str, status: RunStatus) -> None:
    while (await threaded(client.get, run_id)).record.status is not status:
        pass


async def test_pauses_steps_and_resumes(client: Client) -> None:
    run = await threaded(client.start, "sleeper", None, {"debug": True})
    await until(client, run.id, RunStatus.PAUSED)
    with pytest.raises(IllegalTransition, match="is paused cannot pause"):
        await threaded(client.pause, run.id)
    # The step lets the sub-agent in, which waits at its own gate.
    await threaded(client.step, run.id)
    await until(client, run.id, RunStatus.PAUSED)
    nap = (await threaded(client.tree, run.id))[1]
    with pytest.raises(ParentIsPaused) as error:
        await threaded(client.resume, nap.id)
    assert (error.value.run_id, error.value.parent_id) == (nap.id, run.id)
    resumed = await threaded(client.resume, run.id)
    assert resumed.record.status is RunStatus.RUNNING
    paused = await threaded(client.pause, run.id, reason="lunch")
    assert paused.record.status in (RunStatus.PAUSING, RunStatus.PAUSED)
    await threaded(client.stop, run.id, wait_s=5)
    with pytest.raises(RunEnded):
        await threaded(client.resume, run.id)


async def test_answers_questions(client: Client) -> None:
    run = await threaded(client.start, "curious")
    while (asked := (await threaded(client.get, run.id)).record.waiting_for) is None:
        pass
    assert (asked.question, asked.schema, asked.until_at) == (
        "How many?",
        {"type": "integer"},
        None,
    )
    with pytest.raises(NobodyAsks) as error:
        await threaded(client.answer, run.id, "q", 1)
    assert error.value.question_id == "q"
    for wrong, status in (("many", 422), (float("nan"), 400), ("\ud800", 422)):
        with pytest.raises(CallRefused) as refused:
            await threaded(client.answer, run.id, asked.id, wrong)
        assert refused.value.status == status
    answered = await threaded(client.answer, run.id, asked.id, 3)
    assert answered.record.waiting_for is None
    assert (await threaded(client.wait, run.id)).record.result == 3


async def test_moves_a_deadline_and_runs_again(client: Client) -> None:
    run = await threaded(client.start, "sleeper")
    assert (await threaded(client.move_deadline, run.id, 100)).record.deadline_at is not None
    assert (await threaded(client.move_deadline, run.id, None)).record.deadline_at is None
    with pytest.raises(IllegalTransition, match="be rerun"):
        await threaded(client.rerun, run.id)
    await threaded(client.move_deadline, run.id, 0.01)
    assert (await threaded(client.wait, run.id)).record.status is RunStatus.TIMED_OUT
    again = await threaded(client.rerun, run.id, from_step="last")
    assert again.record.rerun_of == run.id
    await threaded(client.stop, again.id, wait_s=5)


async def test_hands_out_files(client: Client) -> None:
    run = await threaded(client.start, "count", {"n": 1})
    await threaded(client.wait, run.id)
    assert await threaded(client.artifacts, run.id) == [ArtifactInfo("a b.bin", "x/y", 3)]
    assert await threaded(client.artifact, run.id, "a b.bin") == b"\x00\xff\n"
    with pytest.raises(CallRefused) as refused:
        await threaded(client.artifact, run.id, "a/b")
    assert refused.value.status == 404


# Streams


async def test_streams_events_to_the_end(client: Client) -> None:
    run = await threaded(client.start, "count", {"n": 1000})
    events: list[Event] = await threaded(list, client.events(run.id))

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    said = [event.data for event in events if event.type == "number.said"]
    assert said == [{"number": n, "text": "\u2028\x85é"} for n in range(1000)]
    assert ending_of(events[-1]) is RunStatus.SUCCEEDED

    late: list[Event] = await threaded(list, client.events(run.id, after=990))
    assert late == events[990:]
    assert await threaded(list, client.events(run.id, after=10_000)) == []


class Script:
    """A server that answers one connection after the other from a list, then closes it.

    Attributes:
        asked: the requests.
    """

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += await stream.receive_some()
        self.asked.append(request.decode().lower())
        await stream.send_all(self.answers.pop(0))


async def scripted(script: Script, nursery: trio.Nursery) -> Client:
    listeners = await nursery.start(trio.serve_tcp, script.serve, 0)
    port = listeners[0].socket.getsockname()[1]
    return Client(f"127.0.0.1:{port}")


def event(seq: int, type: str = "run.log", run_id: str = RUN) -> Event:
    return Event(seq, RunId(run_id), RunId(RUN), type, "2026-11-21T12:00:00.000Z", {"n": seq})


def framed(*events: Event) -> bytes:
    return b"".join(
        f"id: {each.seq}\nevent: {each.type}\ndata: {json.dumps(as_dict(each))}\n\n".encode()
        for each in events
    )


def as_dict(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}


def stream(body: bytes, *, whole: bool = True) -> bytes:
    """Return an SSE response; one that is not whole breaks off."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b""
    return head + b"Connection: close\r\n\r\n" + chunk + (b"0\r\n\r\n" if whole else b"")


def answer(status: str, body: Any, kind: str = "application/json") -> bytes:
    text = body if isinstance(body, str) else json.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(text.encode())}\r\n\r\n{text}".encode()


def run_json(status: str) -> dict[str, Any]:
    return {"id": RUN, "root_id": RUN, "agent": "a", "status": status, "created_at": "x"}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose no time between two tries."""
    monkeypatch.setattr("api.sse.RETRY_S", 0.01)


async def follow(script: Script, run_id: str = RUN, after: int = 0) -> tuple[list[int], int]:
    lost: list[None] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with await scripted(script, nursery) as client:
                found: list[Event] = await threaded(
                    list, client.events(run_id, after=after, on_lost=lambda: lost.append(None))
                )
            nursery.cancel_scope.cancel()
    assert script.answers == []
    return [each.seq for each in found], len(lost)


def last_ids(asked: Sequence[str]) -> list[str]:
    return [
        line.partition(": ")[2]
        for request in asked
        for line in request.splitlines()
        if line.startswith("last-event-id")
    ]


@pytest.mark.usefixtures("hasty")
async def test_a_lost_stream_is_resumed_from_the_last_event_and_nothing_comes_twice() -> None:
    script = Script(
        stream(framed(event(1), event(2)), whole=False),
        stream(framed(event(2), event(3)) + b"id: 4\ndata: {", whole=False),
        b"",
        stream(framed(event(4), event(5, "run.succeeded"), event(6))),
    )
    seqs, lost = await follow(script)

    assert seqs == [1, 2, 3, 4, 5]
    assert last_ids(script.asked) == ["0", "2", "3", "3"]
    assert lost == 2


@pytest.mark.usefixtures("hasty")
async def test_a_stream_that_ends_early_is_that_of_a_server_that_closes() -> None:
    script = Script(
        stream(framed(event(1))),
        answer("200 OK", run_json("running")),
        stream(b""),
        answer("200 OK", run_json("stopped")),
        # The end came between the stream and the question, so there may be more to read.
        stream(framed(event(2), event(3, "run.stopped"))),
    )
    assert await follow(script) == ([1, 2, 3], 0)


@pytest.mark.usefixtures("hasty")
async def test_a_stream_from_beyond_the_end_is_over() -> None:
    script = Script(stream(b""), answer("200 OK", run_json("failed")), stream(b""))
    assert await follow(script, after=99) == ([], 0)


async def test_the_end_of_another_run_is_not_the_end() -> None:
    parts = [event(1, "run.failed", "run_2"), event(2, "run.stopping"), event(3, "run.lost")]
    assert await follow(Script(stream(framed(*parts)))) == ([1, 2, 3], 0)


@pytest.mark.usefixtures("hasty")
async def test_a_run_that_a_new_server_does_not_know_is_an_error() -> None:
    problem = {"type": "urn:quiesce:unknown-run", "run_id": RUN, "detail": "gone"}
    script = Script(
        stream(framed(event(1)), whole=False),
        answer("404 Not Found", problem, "application/problem+json"),
    )
    with pytest.RaisesGroup(UnknownRun):
        await follow(script)


@pytest.mark.usefixtures("hasty")
async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sse.PATIENCE_S", 0.05)
    script = Script(stream(framed(event(1)), whole=False), *[b""] * 100)
    with pytest.RaisesGroup(ServerGone):
        await follow(script)
    assert 1 < len(script.asked) < 60


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_events_in_pieces(size: int) -> None:
    text = (
        b": keep-alive\r\n\r\nretry: 1000\n\n"
        + framed(event(1))
        + b"event: x\n\n"
        + framed(event(2)).replace(b"\n", b"\r\n")
        + b'data: {"seq": 3, "run_id": "run_1",\ndata:"root_id": "run_1", "type": "run.log",\n'
        + b'data: "at": "", "data": {"text": "\xe2\x80\xa8"}, "new": 1}\n\n'
        + b'event: snapshot\ndata: {"id": "run_1"}\n\n'
        + framed(event(4))[:-1]
    )
    chunks = [text[n : n + size] for n in range(0, len(text), size)]
    reader = FrameReader()
    frames = [frame for chunk in chunks for frame in reader.feed(chunk)]
    first, second, third = events_in(frames, "http://here")
    assert (first, second) == (event(1), event(2))
    assert (third.seq, third.data) == (3, {"text": "\u2028"})


# Nobody there, or somebody else


async def test_nobody_answers() -> None:
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with Client(url) as client:
            calls: list[Callable[[], Awaitable[Any]]] = [
                partial(threaded, client.agents),
                partial(threaded, list, client.events(RUN)),
                partial(threaded, client.stop, RUN),
            ]
            for call in calls:
                with pytest.raises(ServerGone, match=r"at http.*refused.*quiesce serve.*--server"):
                    await call()


@pytest.mark.parametrize(
    "said",
    [
        answer("200 OK", "<html>hello</html>", "text/html"),
        answer("200 OK", {"hello": "world"}),
        answer("200 OK", "[" * 100_000),
        answer("200 OK", "[]"),
        answer("409 Conflict", "[" * 100_000),
        answer("404 Not Found", "nothing here", "text/plain"),
        answer("404 Not Found", {"error": "nothing"}),
        answer("302 Found", ""),
    ],
)
async def test_somebody_else_answers(said: bytes) -> None:
    async with trio.open_nursery() as nursery:
        refused = pytest.raises(CallRefused, match="does not answer like a server of Quiesce")
        with await scripted(Script(said), nursery) as client, refused:
            await threaded(client.get, RUN)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url",
    [
        *("", "ftp://here", "http://", ":80", "/x"),
        *("http://h:73616", "h:99999", "h:0", "h:x", "http://[::1"),
    ],
)
def test_an_url_that_is_none(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not like http://127"):
        Client(url)


@pytest.mark.parametrize(
    ("given", "used"),
    [("127.0.0.1:8080", "http://127.0.0.1:8080"), ("http://[::1]:9/", "http://[::1]:9")],
)
def test_an_url_without_its_scheme(given: str, used: str) -> None:
    with Client(given) as client:
        assert client.url == used
