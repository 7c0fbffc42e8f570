"""Agents with one planted fault each; the comment ``# fault`` marks its line. And clean ones."""

from __future__ import annotations

import ssl
import subprocess
import threading
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import trio

from orchestrator import Context, agent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from orchestrator.agent import Agent
    from orchestrator.testing import Place

# Reading the certificates of the authorities takes longer than a whole round.
_TLS = ssl.create_default_context()


@agent
async def leaves_a_client_open(ctx: Context) -> None:
    client = httpx.AsyncClient(verify=_TLS)  # fault
    await ctx.sleep(1)
    await client.aclose()


@agent
async def forgets_a_client(ctx: Context) -> None:
    httpx.AsyncClient(verify=_TLS)  # fault
    await ctx.sleep(1)


@agent
async def leaves_a_socket_open(ctx: Context) -> None:
    socket = trio.socket.socket()  # fault
    await ctx.sleep(1)
    socket.close()


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])  # fault: leaves_a_process


@agent
async def leaves_a_process(ctx: Context) -> None:
    process = _sleeper()
    await ctx.sleep(1)
    process.kill()
    process.wait()


@agent
async def leaves_a_process_of_trio(ctx: Context) -> None:
    process = await trio.lowlevel.open_process(["sleep", "60"])  # fault
    await ctx.sleep(1)
    process.kill()
    await process.wait()


@agent
async def swallows_once(ctx: Context) -> str:
    with suppress(BaseException):
        await ctx.sleep(1)  # fault
    await ctx.sleep(1)
    return "went on"


@agent
async def swallows_and_returns(ctx: Context) -> str:
    try:
        await ctx.sleep(1)  # fault
    except BaseException:
        return "all is well"
    return "done"


@agent
async def swallows_in_a_sub_agent(ctx: Context) -> None:
    await ctx.call(swallows_and_returns)
    await ctx.sleep(1)


@agent
async def swallows_for_ever(ctx: Context) -> None:
    with suppress(BaseException):
        await ctx.sleep(1)  # fault
    while True:
        with suppress(BaseException):
            await trio.sleep_forever()


@agent
async def swallows_in_a_loop(ctx: Context) -> None:
    for _ in range(1_000_000):
        with suppress(BaseException):
            await trio.sleep_forever()  # fault


@agent
async def shields_for_ever(ctx: Context) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()  # fault


@agent
async def operates_in_finally(ctx: Context) -> None:
    try:
        await ctx.sleep(1)
    finally:
        async with ctx.operation("goodbye"):  # fault
            await trio.sleep(0.1)


@agent
async def operates_in_a_shielded_finally(ctx: Context) -> None:
    try:
        await ctx.sleep(1)
    finally:
        with ctx.cleanup():
            async with ctx.operation("goodbye"):  # fault
                await trio.sleep(0.1)


@agent
async def awaits_unshielded(ctx: Context) -> None:
    try:
        await ctx.sleep(1)
    finally:
        await trio.sleep(0.1)  # fault
        undisturbed = True  # never reached
        assert undisturbed


@asynccontextmanager
async def _connection() -> AsyncIterator[None]:
    try:
        yield
    finally:
        await trio.sleep(0.1)  # fault: awaits_in_a_context_manager


@agent
async def awaits_in_a_context_manager(ctx: Context) -> None:
    async with _connection():
        await ctx.sleep(1)


@agent
async def awaits_after_children(ctx: Context) -> None:
    try:
        await ctx.map(sub, [{}, {}])
    finally:
        await trio.sleep(0.1)  # fault


@agent
async def operates_after_children(ctx: Context) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
    finally:
        async with ctx.operation("goodbye"):  # fault
            await trio.sleep(0.1)


@agent
async def swallows_what_children_raise(ctx: Context) -> None:
    with suppress(BaseException):
        async with trio.open_nursery() as nursery:  # fault
            nursery.start_soon(trio.sleep, 1)
    await ctx.sleep(1)


@agent
async def leaks_a_system_task(ctx: Context) -> None:
    trio.lowlevel.spawn_system_task(_background)  # fault
    await ctx.sleep(1)


@agent
async def leaks_into_the_nursery_around(ctx: Context) -> None:
    around = trio.lowlevel.current_task().parent_nursery
    assert around is not None
    around.start_soon(trio.sleep_forever)  # fault
    await ctx.sleep(1)


@agent
async def leaks_a_thread(ctx: Context) -> None:
    go = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, _wait, go, abandon_on_cancel=True))
        await ctx.checkpoint()
        await ctx.checkpoint()
        go.set()


def _wait(go: threading.Event) -> None:
    go.wait(3)  # fault: leaks_a_thread


outer: trio.Nursery | None = None


@asynccontextmanager
async def with_outer_nursery() -> AsyncIterator[None]:
    global outer
    async with trio.open_nursery() as outer:
        yield


@agent
async def leaks_into_a_global_nursery(ctx: Context) -> None:
    assert outer is not None
    outer.start_soon(_background)  # fault
    await ctx.sleep(1)


async def _background() -> None:
    await trio.sleep(1000)


async def _numbers() -> AsyncGenerator[int, None]:  # fault: leaves_a_generator
    for number in range(3):
        yield number


@agent
async def leaves_a_generator(ctx: Context) -> None:
    async for _ in _numbers():
        await ctx.sleep(1)


@agent
async def raises_in_finally(ctx: Context) -> None:
    done = False
    try:
        await ctx.sleep(1)
        done = True
    finally:
        if not done:
            raise KeyError("half")  # fault


async def _fails() -> None:
    raise OSError("the disk is full")


@agent
async def fails_to_compensate(ctx: Context) -> None:
    ctx.on_stop(_fails)  # fault
    await ctx.sleep(1)


@agent
async def fails_by_itself(ctx: Context) -> None:
    await ctx.sleep(1)
    raise ValueError("always")  # fault


@agent
async def sub(ctx: Context, seconds: float = 1) -> str:
    async with ctx.operation("think"):
        await trio.sleep(seconds)
    await ctx.partial({"thought": seconds})
    return "thought"


@agent
async def clean(ctx: Context) -> list[str]:
    """Do a little of everything, in the ways in which it should be done."""

    async def undo() -> None:
        async with ctx.operation("undo"):
            await trio.sleep(0.1)

    said: list[str] = []
    send, receive = trio.open_memory_channel[int](0)

    async def talk() -> None:
        async with send:
            for number in range(2):
                await send.send(number)

    ctx.on_stop(undo)
    try:
        async with httpx.AsyncClient(verify=_TLS), _numbers_until_closed() as numbers:
            async for number in numbers:
                await ctx.log(str(number))
        async with trio.open_nursery() as nursery, receive:
            nursery.start_soon(talk)
            async for number in receive:
                await ctx.progress(number)
        child = await ctx.start(sub, seconds=2)
        said += await ctx.map(sub, [{}, {"seconds": 0.5}])
        with trio.move_on_after(0.25):
            await ctx.sleep(1)
        said.append(await child.wait())
        with ctx.critical("commit", max_seconds=1):
            async with ctx.operation("commit"):
                await trio.sleep(0.1)
    finally:
        with ctx.cleanup():
            await trio.sleep(0.1)
    return said


@asynccontextmanager
async def _numbers_until_closed() -> AsyncIterator[AsyncIterator[int]]:
    async with aclosing(_numbers()) as numbers:
        yield numbers


@agent
async def threads(ctx: Context) -> int:
    """Use threads, with a limit that a clock that jumps would overrun."""
    total = 0
    for number in range(3):
        with trio.fail_after(0.001):
            total += await trio.to_thread.run_sync(_square, number, abandon_on_cancel=True)
        await ctx.sleep(1)
    return total


def _square(number: int) -> int:
    for _ in range(20_000):
        pass
    return number * number


@agent
async def waits_for_ever(ctx: Context) -> None:
    await ctx.progress(0)
    await trio.sleep_forever()


def line_of(agent: Agent) -> int:
    """Return the line of the agent's fault."""
    lines = Path(__file__).read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if line.endswith(f"# fault: {agent.name}"):
            return number
    first: int = agent.function.__code__.co_firstlineno
    return next(n for n in range(first, len(lines) + 1) if lines[n - 1].endswith("# fault"))


def is_line_of(agent: Agent, place: Place | None) -> bool:
    """Whether the place is that of the agent's fault."""
    return place is not None and (place.file, place.line) == (__file__, line_of(agent))
