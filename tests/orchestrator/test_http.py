"""A run's own HTTP client, seen from the server that it talks to."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trio.testing

from orchestrator import (
    Context,
    OperationRefused,
    Orchestrator,
    RunStatus,
    StopOutcome,
    agent,
    open_orchestrator,
)
from orchestrator.http import RunClient
from orchestrator.operations import Gate
from tests.victim import open_victim

if TYPE_CHECKING:
    from orchestrator.sections import Section


class Owner:
    """A gate's owner that takes no notes."""

    def tell(self, payload: object) -> None:
        pass

    def section_ended(self, section: Section, *, cut: bool) -> None:
        pass

    def operation_refused(self) -> None:
        pass

    def parked(self) -> None:
        pass


# A gate does not keep its owner.
OWNER = Owner()


def make_client(concurrency: int) -> RunClient:
    return RunClient(Gate(OWNER), concurrency)


@pytest.mark.parametrize("times", [300, pytest.param(2000, marks=pytest.mark.slow)])
async def test_cancellations_under_contention_leave_the_client_usable(times: int) -> None:
    """httpcore's own pool is ruined for good by cancellations of requests that wait for a slot."""
    rng = random.Random(times)
    client = make_client(4)
    paths = ["/quick", "/slow?seconds=0.003", "/half", "/stream", "/redirect"]

    async def one() -> None:
        with trio.move_on_after(rng.choice([0, rng.uniform(0, 0.02)])):
            await client.http.get(victim.url + rng.choice(paths), follow_redirects=True)

    with trio.fail_after(60):
        async with open_victim() as victim:
            for _ in range(times // 20):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(one)
            for _ in range(10):
                assert (await client.http.get(victim.url + "/quick")).text == "ok"
            assert victim.busiest <= 4
            await client.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert victim.open == []
            assert client.connections == 0


async def test_the_limiter_bounds_the_concurrency_at_the_server() -> None:
    client = make_client(3)
    with trio.fail_after(20):
        async with open_victim() as victim, trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(client.http.get, victim.url + "/held")
            await victim.until(lambda: len(victim.running) == 3)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert len(victim.requests) == 3
            victim.release.set()
            await victim.until(lambda: len(victim.requests) == 12)
            assert victim.busiest == 3
    await client.aclose()


async def test_a_stalled_handshake_that_is_cancelled_closes_its_socket_at_once() -> None:
    """httpcore leaves that socket open until it is collected as garbage."""
    client = make_client(10)
    with trio.fail_after(20):
        async with open_victim() as victim:
            for _ in range(10):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(client.http.get, victim.stalled_url)
                        await victim.until(lambda: any(c.closed is None for c in victim.stalled))
                        await trio.testing.wait_all_tasks_blocked(0.002)
                        scope.cancel()
                assert client.connections == 0
                with trio.fail_after(1):
                    await victim.until(lambda: all(c.closed is not None for c in victim.stalled))
            assert len(victim.stalled) == 10
    await client.aclose()


async def test_a_handshake_that_fails_closes_its_socket() -> None:
    client = make_client(10)
    with trio.fail_after(20):
        async with open_victim() as victim:
            with pytest.raises(httpx.ConnectError):
                await client.http.get(victim.url.replace("http:", "https:") + "/quick")
            await victim.until(lambda: victim.open == [])
            assert client.connections == 0
    await client.aclose()


async def test_the_raw_client_sends_nothing_after_a_stop(orchestrator: Orchestrator) -> None:
    refused: list[str] = []

    @agent
    async def stubborn(ctx: Context) -> None:
        await ctx.http.get(victim.url + "/quick?first")
        ready.set()
        try:
            await ctx.sleep(1000)
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(3):
                    try:
                        await ctx.http.post(victim.url + "/quick?late")
                    except OperationRefused as error:
                        refused.append(str(error))

    ready = trio.Event()
    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(stubborn)
            await ready.wait()
            receipt = await run.stop()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert [r.path for r in victim.requests] == ["/quick?first"]
            assert len(refused) == 3
            assert "POST" in refused[0]
            assert receipt.outcome is StopOutcome.STOPPED
            assert victim.open == []


async def test_a_request_that_waits_for_a_slot_at_the_stop_is_never_sent(
    orchestrator: Orchestrator,
) -> None:
    """Interleaving: the request waits for a slot in a shield of the agent's own, the stop comes,
    and then the slot is free."""

    @agent(http_concurrency=1)
    async def crowded(ctx: Context) -> None:
        async def second() -> None:
            with trio.CancelScope(shield=True), suppress(OperationRefused):
                await ctx.http.get(victim.url + "/quick?second")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ctx.get, victim.url + "/held?first")
            await victim.until(lambda: len(victim.requests) == 1)
            nursery.start_soon(second)

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(crowded)
            await victim.until(lambda: len(victim.requests) == 1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            run.request_stop(grace_s=15)
            victim.release.set()
            record = await run.wait()
            assert record.status is RunStatus.STOPPED
            assert [r.path for r in victim.requests] == ["/held?first"]
            assert victim.requests[0].finished is not None


async def test_a_response_that_is_never_closed_is_closed_at_the_end(
    orchestrator: Orchestrator,
) -> None:
    @agent
    async def careless(ctx: Context) -> str:
        request = ctx.http.build_request("GET", victim.url + "/stream")
        kept.append(await ctx.http.send(request, stream=True))
        return "done"

    kept: list[httpx.Response] = []
    with trio.fail_after(20):
        async with open_victim() as victim:
            record = await (await orchestrator.start(careless)).wait()
            assert record.status is RunStatus.SUCCEEDED
            await victim.until(lambda: victim.open == [])
            assert len(victim.connections) == 1


@pytest.mark.parametrize("path", ["/stream", "/held", "/half"])
async def test_severing_ends_a_shielded_request(path: str, orchestrator: Orchestrator) -> None:
    """The run's code has a shield of its own, so its sockets are closed from outside; the error
    that brings ends the code, and the run is stopped, not abandoned."""

    @agent
    async def shielded(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await ctx.http.get(victim.url + path)

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(shielded, cleanup_s=0.2)
            await victim.until(lambda: len(victim.running) == 1)
            receipt = await run.stop(mode="now")
            assert run.status == RunStatus.STOPPED
            assert receipt.outcome is StopOutcome.STOPPED
            assert receipt.error is not None
            assert receipt.error.type in ("ReadError", "RemoteProtocolError")
            assert receipt.still_running == ()
            await victim.until(lambda: victim.open == [])


async def test_severing_ends_a_shielded_handshake(orchestrator: Orchestrator) -> None:
    @agent
    async def shielded(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await ctx.http.get(victim.stalled_url)

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(shielded, cleanup_s=0.2)
            await victim.until(lambda: len(victim.stalled) == 1)
            receipt = await run.stop(mode="now")
            assert receipt.outcome is StopOutcome.STOPPED
            await victim.until(lambda: victim.stalled[0].closed is not None)


async def test_a_kill_severs_an_operation_in_flight(orchestrator: Orchestrator) -> None:
    @agent
    async def caller(ctx: Context) -> None:
        await ctx.get(victim.url + "/held")

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(caller)
            await victim.until(lambda: len(victim.running) == 1)
            began = trio.current_time()
            receipt = await run.stop(mode="kill")
            assert trio.current_time() - began < 0.5
            assert receipt.outcome is StopOutcome.STOPPED
            await victim.until(lambda: victim.open == [])


@pytest.mark.parametrize("mode", ["now", "kill"])
async def test_a_stop_hangs_up_in_the_step_in_which_it_is_asked(
    mode: str, orchestrator: Orchestrator
) -> None:
    """The other end hears it although this program does nothing more than ask."""

    @agent
    async def reader(ctx: Context) -> None:
        await ctx.get(url)

    @agent
    async def parent(ctx: Context) -> None:
        await ctx.call(reader)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        run = await orchestrator.start(parent)
        peer, _ = await trio.to_thread.run_sync(listener.accept)
        with peer:
            asked = await trio.to_thread.run_sync(peer.recv, 65536)
            assert asked.startswith(b"GET / ")
            peer.settimeout(5)
            run.request_stop(mode=mode)
            assert peer.recv(1) == b""
        assert (await run.wait()).status is RunStatus.STOPPED


async def test_a_stop_leaves_the_connections_of_a_critical_section(
    orchestrator: Orchestrator,
) -> None:
    answers: list[bytes] = []

    @agent
    async def committer(ctx: Context) -> None:
        with ctx.critical("commit", 10):
            answers.append((await ctx.http.get(f"{victim.url}/held")).content)

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(committer)
            await victim.until(lambda: len(victim.running) == 1)
            run.request_stop(mode="now")
            await trio.testing.wait_all_tasks_blocked()
            assert len(victim.open) == 1
            victim.release.set()
            receipt = (await run.wait()).stop
            assert receipt is not None
            assert receipt.critical_s > 0
            assert len(answers) == 1


async def test_a_compensation_asks_anew_after_the_stop_has_hung_up(
    orchestrator: Orchestrator,
) -> None:
    @agent
    async def holder(ctx: Context) -> None:
        async def undo() -> None:
            assert (await ctx.http.get(f"{victim.url}/quick")).status_code == 200

        ctx.on_stop(undo)
        await ctx.get(f"{victim.url}/quick")
        await ctx.get(f"{victim.url}/held")

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(holder)
            await victim.until(lambda: len(victim.running) == 1)
            receipt = await run.stop(mode="now")
            assert receipt.cleanup_errors == ()
            await victim.until(lambda: victim.open == [])


async def test_leaving_the_orchestrator_closes_every_connection() -> None:
    @agent
    async def streamer(ctx: Context) -> None:
        async with ctx.operation("s"), ctx.http.stream("GET", victim.url + "/stream") as response:
            async for _ in response.aiter_raw():
                pass

    with trio.fail_after(20):
        async with open_victim() as victim:
            with trio.CancelScope() as scope:
                async with open_orchestrator() as orchestrator:
                    for _ in range(20):
                        await orchestrator.start(streamer)
                    await victim.until(lambda: len(victim.running) == 20)
                    scope.cancel()
                    await trio.sleep_forever()
            await victim.until(lambda: victim.open == [])


async def test_the_client_of_abandoned_code_is_closed_from_outside_and_counted(
    orchestrator: Orchestrator,
) -> None:
    stands, release = trio.Event(), trio.Event()

    @agent
    async def stubborn(ctx: Context) -> None:
        async with ctx.operation("s"), ctx.http.stream("GET", victim.url + "/stream"):
            with trio.CancelScope(shield=True):
                stands.set()
                await release.wait()

    with trio.fail_after(20):
        async with open_victim() as victim:
            run = await orchestrator.start(stubborn)
            await stands.wait()
            assert len(victim.open) == 1
            receipt = await run.stop(mode="kill")
            assert receipt.outcome == "abandoned"
            assert receipt.clients_closed == 1
            await victim.until(lambda: victim.open == [])
            release.set()
            await run.exited.wait()


class Scripted(httpx.AsyncBaseTransport):
    """Answers with the path, once it may; notes what it is asked, and whether it is closed."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = trio.Event()
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        await self.answers.wait()
        return httpx.Response(200, text=request.url.path)

    async def aclose(self) -> None:
        self.closed = True


async def test_a_scripted_transport_outlives_the_runs_that_use_it() -> None:
    @agent
    async def getter(ctx: Context, path: str) -> str:
        return (await ctx.get("http://nowhere.test" + path)).text

    scripted = Scripted()
    scripted.answers.set()
    with trio.fail_after(20):
        async with open_orchestrator(transport=scripted) as orchestrator:
            for path in ("/a", "/b"):
                record = await (await orchestrator.start(getter, {"path": path})).wait()
                assert record.result == path
    assert not scripted.closed


async def test_a_scripted_transport_has_the_gate_and_the_slots_before_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted, client_gate = Scripted(), Gate(OWNER)
    client = RunClient(client_gate, 2, scripted)
    statuses: list[int] = []

    async def one(path: str) -> None:
        try:
            statuses.append((await client.http.get("http://nowhere.test" + path)).status_code)
        except OperationRefused:
            statuses.append(0)

    async with trio.open_nursery() as nursery:
        for path in ("/a", "/b", "/c"):
            nursery.start_soon(one, path)
        await trio.testing.wait_all_tasks_blocked()
        assert len(scripted.asked) == 2
        assert client.connections == 0
        client.sever()
        client_gate.close(trio.current_time() + 1)
        scripted.answers.set()
    assert sorted(statuses) == [0, 200, 200]
    assert len(scripted.asked) == 2
    await client.aclose()
    await client.aclose()
    assert not scripted.closed


async def test_a_cancelled_scripted_request_gives_its_slot_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scripted = Scripted()
    client = RunClient(Gate(OWNER), 1, scripted)
    for _ in range(3):
        with trio.move_on_after(1):
            await client.http.get("http://nowhere.test/held")
    scripted.answers.set()
    with trio.fail_after(1):
        assert (await client.http.get("http://nowhere.test/free")).text == "/free"
    await client.aclose()
