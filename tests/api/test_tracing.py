"""Runs as spans: read from an exporter in memory, and from the wire where there is one."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio.testing
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from api.service import open_server
from api.tracing import tracing
from api.tracing.setup import Tracing, exporters_in
from api.tracing.spans import Traces
from orchestrator import (
    Context,
    InvalidInput,
    Orchestrator,
    RunStatus,
    agent,
    called_from,
    open_orchestrator,
)
from orchestrator.store import SaveRun, open_store
from orchestrator.testing import Reply, ScriptedHTTP, ScriptedLLM
from orchestrator.trace import read_traceparent
from tests.api.agents import visitor
from tests.api.processes import quiesce
from tests.crash.test_recovery import _queued, _record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan
    from trio.testing import MockClock

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
CALLER = f"00-{TRACE}-{PARENT}-01"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def now(seconds: float) -> str:
    """The wall clock of these tests: Trio's."""
    at = EPOCH + timedelta(seconds=trio.current_time() + seconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    begun = EPOCH.timestamp()
    return round(span.start_time / 1e9 - begun, 3), round(span.end_time / 1e9 - begun, 3)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Traces:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Traces(provider, "1.0")


@pytest.fixture
def http() -> ScriptedHTTP:
    return ScriptedHTTP(otherwise=Reply(text="ok"))


@pytest.fixture
async def traced(traces: Traces, http: ScriptedHTTP) -> AsyncIterator[Orchestrator]:
    """An orchestrator in memory whose runs are traced; for tests in virtual time."""
    async with open_orchestrator(observers=[traces], now=now, transport=http) as opened:
        yield opened


def spans_of(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans by their names, each of which is there once."""
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent_id(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


@agent
async def leaf(ctx: Context) -> None:
    async with ctx.operation("work", "one of many"):
        await trio.sleep(2)


@agent
async def root(ctx: Context) -> None:
    await trio.sleep(1)
    await ctx.call(leaf)


@agent
async def fetcher(ctx: Context, url: str = "https://u:p@example.org:8443/a?key=secret#x") -> None:
    await ctx.get(url)


async def test_runs_sub_agents_and_operations_are_spans_within_each_other(
    traced: Orchestrator, autojump_clock: MockClock, exporter: InMemorySpanExporter
) -> None:
    run = await traced.start(root, owner="ada", tags=["a", "b"])
    await run.wait()
    spans = spans_of(exporter)
    top, below, work = (spans[n] for n in ("invoke_agent root", "invoke_agent leaf", "work"))
    assert len(spans) == 3
    assert len({ids(span)[0] for span in spans.values()}) == 1
    assert [parent_id(span) for span in (top, below, work)] == [None, ids(top)[1], ids(below)[1]]
    assert [seconds_of(span) for span in (top, below, work)] == [(0, 3), (1, 3), (1, 3)]
    assert {span.kind for span in spans.values()} == {SpanKind.INTERNAL}
    assert {span.status.status_code for span in spans.values()} == {StatusCode.UNSET}
    assert dict(top.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "quiesce",
        "gen_ai.agent.name": "root",
        "quiesce.run.id": run.id,
        "quiesce.run.root_id": run.id,
        "quiesce.run.status": "succeeded",
        "quiesce.run.attempt": 1,
        "quiesce.run.owner": "ada",
        "quiesce.run.tags": ("a", "b"),
    }
    assert dict(work.attributes or {}) == {
        "quiesce.operation.kind": "work",
        "quiesce.operation.label": "one of many",
        "quiesce.operation.cut": False,
        "quiesce.run.id": (below.attributes or {})["quiesce.run.id"],
    }


async def test_a_stop_is_no_error(
    traced: Orchestrator, autojump_clock: MockClock, exporter: InMemorySpanExporter
) -> None:
    run = await traced.start(root)
    await trio.sleep(2)
    run.request_stop(reason="enough", requested_by="ada", grace_s=60)
    await trio.sleep(0.5)
    await run.stop(mode="now")
    spans = spans_of(exporter)
    assert {span.status.status_code for span in spans.values()} == {StatusCode.UNSET}
    about = {
        name: value
        for name, value in (spans["invoke_agent root"].attributes or {}).items()
        if name.startswith("quiesce.stop.") or name == "quiesce.run.status"
    }
    assert about == {
        "quiesce.run.status": "stopped",
        "quiesce.stop.mode": "now",
        "quiesce.stop.reached": "now",
        "quiesce.stop.source": "user",
        "quiesce.stop.requested_by": "ada",
        "quiesce.stop.reason": "enough",
        "quiesce.stop.outcome": "stopped",
        "quiesce.stop.latency": 0.5,
    }
    happened = [(event.name, event.timestamp / 1e9) for event in spans["invoke_agent root"].events]
    begun = EPOCH.timestamp()
    assert happened == [
        ("quiesce.run.started", begun),
        ("quiesce.stop.requested", begun + 2),
        ("quiesce.stop.tightened", begun + 2.5),
    ]
    assert (spans["work"].attributes or {})["quiesce.operation.cut"] is True
    assert seconds_of(spans["work"]) == (1, 2.5)


async def test_a_failure_is_an_error_and_says_no_secret(
    traced: Orchestrator, autojump_clock: MockClock, exporter: InMemorySpanExporter
) -> None:
    @agent
    async def failing(ctx: Context) -> None:
        async with ctx.operation("work"):
            raise ValueError("401 for https://example.org/?key=secret")

    await (await traced.start(failing)).wait()
    for span in spans_of(exporter).values():
        assert span.status.status_code is StatusCode.ERROR
        assert "401 for https://example.org/?***" in (span.status.description or "")
        assert (span.attributes or {})["error.type"] == "ValueError"


async def test_a_deadline_is_a_stop_and_code_that_resists_is_an_error(
    traced: Orchestrator, autojump_clock: MockClock, exporter: InMemorySpanExporter
) -> None:
    release = trio.Event()

    @agent
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    await (await traced.start(root, deadline_s=0.5)).wait()
    run = await traced.start(stubborn)
    await trio.testing.wait_all_tasks_blocked()
    await run.stop(mode="kill")
    release.set()
    spans = spans_of(exporter)
    timed_out, abandoned = spans["invoke_agent root"], spans["invoke_agent stubborn"]
    assert (timed_out.attributes or {})["quiesce.run.status"] == "timed_out"
    assert timed_out.status.status_code is StatusCode.UNSET
    assert abandoned.status.status_code is StatusCode.ERROR
    assert (abandoned.attributes or {})["error.type"] == "abandoned"


async def test_requests_have_the_names_of_http_and_no_secrets(
    traced: Orchestrator, autojump_clock: MockClock, exporter: InMemorySpanExporter
) -> None:
    await (await traced.start(fetcher)).wait()
    span = spans_of(exporter)["GET"]
    assert span.kind is SpanKind.CLIENT
    about = dict(span.attributes or {})
    assert about.pop("quiesce.run.id")
    assert about == {
        "http.request.method": "GET",
        "url.full": "https://example.org:8443/a",
        "server.address": "example.org",
        "server.port": 8443,
        "quiesce.operation.kind": "http",
        "quiesce.operation.cut": False,
    }


async def test_calls_of_models_have_the_names_of_genai(
    traced: Orchestrator,
    autojump_clock: MockClock,
    exporter: InMemorySpanExporter,
    http: ScriptedHTTP,
) -> None:
    llm = ScriptedLLM(http)
    llm.say("hello")

    @agent
    async def asker(ctx: Context) -> None:
        await ctx.llm("hi", model="tiny", base_url=llm.base_url, api_key="none")

    await (await traced.start(asker)).wait()
    spans = spans_of(exporter)
    about = spans["chat tiny"].attributes or {}
    assert spans["chat tiny"].kind is SpanKind.CLIENT
    assert [about[f"gen_ai.{name}"] for name in ("operation.name", "request.model")] == [
        "chat",
        "tiny",
    ]
    spent = spans["invoke_agent asker"].attributes or {}
    assert (spent["gen_ai.usage.input_tokens"], spent["gen_ai.usage.output_tokens"]) > (0, 0)


# Where a run comes from, and what it passes on


async def test_a_request_carries_the_place_of_its_operation(
    traced: Orchestrator,
    autojump_clock: MockClock,
    exporter: InMemorySpanExporter,
    http: ScriptedHTTP,
) -> None:
    with called_from(CALLER):
        run = await traced.start(fetcher)
    await run.wait()
    spans = spans_of(exporter)
    top, request = spans["invoke_agent fetcher"], spans["GET"]
    assert ids(top)[0] == TRACE
    assert parent_id(top) == PARENT
    assert top.parent is not None
    assert top.parent.is_remote
    (seen,) = http.requests
    assert seen.headers["traceparent"] == f"00-{TRACE}-{ids(request)[1]}-01"


async def test_what_an_agent_says_itself_is_left_alone(
    traced: Orchestrator, autojump_clock: MockClock, http: ScriptedHTTP
) -> None:
    @agent
    async def own(ctx: Context) -> None:
        await ctx.get("http://a.test/", headers={"Traceparent": "mine"})

    await (await traced.start(own)).wait()
    assert http.requests[0].headers["traceparent"] == "mine"


async def test_a_detached_run_hangs_below_the_one_that_started_it(
    traced: Orchestrator, autojump_clock: MockClock, exporter: InMemorySpanExporter
) -> None:
    @agent
    async def starter(ctx: Context) -> None:
        await ctx.start_detached(leaf)

    await (await traced.start(starter)).wait()
    for run in traced.registry.roots():
        await run.wait()
    spans = spans_of(exporter)
    top, detached = spans["invoke_agent starter"], spans["invoke_agent leaf"]
    assert parent_id(detached) == ids(top)[1]
    assert ids(detached)[0] == ids(top)[0]


async def test_a_trace_that_is_not_kept_is_passed_on_as_such(
    traced: Orchestrator,
    autojump_clock: MockClock,
    exporter: InMemorySpanExporter,
    http: ScriptedHTTP,
) -> None:
    with called_from(f"00-{TRACE}-{PARENT}-00"):
        await (await traced.start(fetcher)).wait()
    assert exporter.get_finished_spans() == ()
    place = http.requests[0].headers["traceparent"]
    assert place.startswith(f"00-{TRACE}-")
    assert place.endswith("-00")
    assert PARENT not in place


async def test_without_traces_the_place_is_passed_on_as_it_came(
    http: ScriptedHTTP, autojump_clock: MockClock
) -> None:
    @agent
    async def both(ctx: Context) -> None:
        await ctx.get("http://a.test/")
        await ctx.call(fetcher)

    async with open_orchestrator(transport=http) as orchestrator:
        with called_from(CALLER):
            run = await orchestrator.start(both)
        await run.wait()
        other = await orchestrator.start(fetcher)
        await other.wait()
    assert [seen.headers.get("traceparent") for seen in http.requests] == [
        CALLER,
        CALLER,
        None,
    ]


async def test_a_tree_is_kept_whole_or_not_at_all(
    exporter: InMemorySpanExporter, http: ScriptedHTTP, autojump_clock: MockClock
) -> None:
    @agent
    async def above(ctx: Context) -> None:
        await ctx.call(fetcher)

    provider = TracerProvider(sampler=TraceIdRatioBased(0.5), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with open_orchestrator(observers=[Traces(provider)], transport=http) as orchestrator:
        for _ in range(40):
            await (await orchestrator.start(above)).wait()
    names: dict[str, list[str]] = {}
    for span in exporter.get_finished_spans():
        names.setdefault(ids(span)[0], []).append(span.name)
    whole = ["GET", "invoke_agent fetcher", "invoke_agent above"]
    assert all(found == whole for found in names.values())
    assert 0 < len(names) < 40
    passed_on = [seen.headers["traceparent"].split("-") for seen in http.requests]
    assert {trace for _, trace, _, flags in passed_on if flags == "01"} == set(names)


async def test_a_run_that_starts_again_after_a_crash_is_the_same_span(
    traces: Traces, exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    @agent
    async def sleeper(ctx: Context) -> None:
        pass

    url = f"sqlite:///{tmp_path}/x.db"
    times = {"started_at": "2026-01-01T00:00:00.000Z", "traceparent": CALLER}
    options = {"on_crash": "restart"}
    with trio.fail_after(20):
        async with open_orchestrator(url, agents=[sleeper], now=lambda s: utc(s)) as opened:
            template = await opened.start(sleeper, options=options)
            await template.wait()
            options_of = template.record.options
        left = _record("run_root", status=RunStatus.RUNNING, options=options_of, **times)
        async with open_store(url) as store:
            await store.write([SaveRun(left), _queued("run_root", 1, None)])
        async with open_orchestrator(url, agents=[sleeper], observers=[traces]) as opened:
            live = opened.live("run_root")
            if live is not None:
                await live.wait()
    (span,) = exporter.get_finished_spans()
    assert (ids(span)[0], parent_id(span)) == (TRACE, PARENT)
    assert (span.attributes or {})["quiesce.run.attempt"] == 2
    assert ids(span)[1] == traces.traceparent(left, None).split("-")[2]


def utc(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (CALLER, CALLER),
        (f"01-{TRACE}-{PARENT}-01-more", CALLER),
        (f"cc-{TRACE}-{PARENT}-09", f"00-{TRACE}-{PARENT}-09"),
    ],
)
def test_a_place_in_a_trace_is_read(given: str, read: str) -> None:
    assert read_traceparent(given) == read


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        CALLER + "-more",
        CALLER.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_what_is_no_place_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput, match="traceparent"):
        read_traceparent(given)


# Over HTTP


async def test_the_request_that_starts_a_run_is_its_parent(
    traces: Traces, exporter: InMemorySpanExporter
) -> None:
    with trio.fail_after(20):
        async with (
            open_orchestrator(agents=[leaf, root], observers=[traces]) as orchestrator,
            open_server(orchestrator) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            for place in (CALLER, "nonsense", None):
                headers = {} if place is None else {"traceparent": place}
                order = {"agent": "root", "options": {"deadline_s": 0.01}}
                answer = await client.post("/runs?wait_s=10", json=order, headers=headers)
                assert answer.status_code == 201
    found = [(ids(span)[0], parent_id(span)) for span in exporter.get_finished_spans()]
    assert found[0] == (TRACE, PARENT)
    assert [parent for _, parent in found[1:]] == [None, None]
    assert len({trace for trace, _ in found}) == 3


# Whoever receives them


class Stuck(SpanExporter):
    """A receiver that does not answer until it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.asked = threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.let.wait(30)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


async def test_a_slow_receiver_holds_up_no_run_and_no_shutdown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @agent
    async def quick(ctx: Context) -> None:
        pass

    monkeypatch.setattr("api.tracing.setup.CLOSE_S", 0.2)
    stuck, provider = Stuck(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(stuck, schedule_delay_millis=1))
    tracing = Tracing(provider)
    with trio.fail_after(20):
        async with open_orchestrator(observers=tracing.observers) as orchestrator:
            for _ in range(200):
                await (await orchestrator.start(quick)).wait()
        await trio.to_thread.run_sync(stuck.asked.wait, 10)
        assert stuck.names == []
        began = trio.current_time()
        with caplog.at_level(logging.WARNING, "quiesce.tracing"):
            await tracing.close()
            await tracing.close()
        assert trio.current_time() - began < 5
    said = [record.message for record in caplog.records if record.name == "quiesce.tracing"]
    assert said == ["not all traces could be sent within 0.2 s"]
    stuck.let.set()


async def test_closing_sends_what_is_left() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    tracing = Tracing(provider)
    with trio.fail_after(20):
        async with open_orchestrator(observers=tracing.observers) as orchestrator:
            run = await orchestrator.start(leaf)
            await run.stop(mode="now")
        await tracing.close()
    assert "invoke_agent leaf" in {span.name for span in exporter.get_finished_spans()}


# As the environment says


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x"}, []),
        ({"OTEL_TRACES_EXPORTER": "console"}, ["console"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp_proto_http", "console"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ["otlp_proto_http"]),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ["otlp_proto_grpc"],
        ),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "True"}, []),
    ],
)
def test_the_environment_says_where_traces_go(environ: dict[str, str], names: list[str]) -> None:
    assert exporters_in(environ) == names


async def test_nothing_is_made_if_nobody_asks() -> None:
    async with tracing({}) as made:
        assert made.observers == []


async def test_an_exporter_that_is_not_there_is_logged_and_prevents_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with trio.fail_after(20), caplog.at_level(logging.ERROR, "quiesce.tracing"):
        async with tracing({"OTEL_TRACES_EXPORTER": "zipkin"}) as made:
            assert len(made.observers) == 1
    (line,) = [r.message for r in caplog.records if r.name == "quiesce.tracing"]
    assert line.startswith("there is no exporter 'zipkin' for traces")


async def test_a_missing_extra_is_logged_and_prevents_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.resources", None)
    with caplog.at_level(logging.WARNING, "quiesce.tracing"):
        async with tracing({"OTEL_TRACES_EXPORTER": "otlp"}) as made:
            assert made.observers == []
    assert "quiesce[otel]" in caplog.text


def test_a_disabled_sdk_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traces = Traces(TracerProvider(shutdown_on_exit=False))
    assert traces.traceparent(_record("run_root", status=RunStatus.RUNNING), None) == ""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A server that takes traces over OTLP, and what it was sent: headers and messages."""
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((dict(self.headers), ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            taken.append((dict(self.headers), None))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


@pytest.mark.slow
async def test_a_run_in_a_process_of_its_own_passes_its_place_on(
    collector: tuple[str, list[Any]], traces: Traces, exporter: InMemorySpanExporter
) -> None:
    endpoint, taken = collector
    with trio.fail_after(40), called_from(CALLER):
        async with open_orchestrator(agents=[visitor], observers=[traces]) as orchestrator:
            given = {"url": endpoint, "times": 1}
            run = await orchestrator.start(visitor, given, isolation="process")
            assert (await run.wait()).status == "succeeded"
    top = spans_of(exporter)["invoke_agent visitor"]
    assert [headers["traceparent"] for headers, _ in taken] == [f"00-{TRACE}-{ids(top)[1]}-01"]


@pytest.mark.slow
def test_a_server_sends_its_traces_where_the_environment_says(
    collector: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint, taken = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with quiesce("serve", "--port", "0", "--store", "memory://", cwd=tmp_path) as server:
        url = server.until("listening on").split()[-1]
        order = {"agent": "command", "input": {"argv": ["sleep", "100"]}}
        with httpx.Client(base_url=url, timeout=30) as client:
            run = client.post("/runs", json=order, headers={"traceparent": CALLER}).json()
            client.post(f"/runs/{run['id']}/stop", json={"mode": "now", "wait_s": 20})
        server.signal()
        assert server.end() == 0
    headers, message = taken[0]
    assert headers["x-key"] == "abc"
    (resource,) = message.resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert named["service.name"] == "quiesce"
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert spans["invoke_agent command"].trace_id.hex() == TRACE
    assert spans["invoke_agent command"].parent_span_id.hex() == PARENT
