"""The worker's side of a run: its agent's code in a Trio loop of its own, and then the clean-up."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

import trio
from pydantic_core import to_jsonable_python

from orchestrator.agent import as_json
from orchestrator.cleanup import bounded
from orchestrator.context import within
from orchestrator.errors import in_words
from orchestrator.mcp import close_servers
from orchestrator.supervise import compensate, describe, printable_errors, split_cancelled
from orchestrator.worker.asyncio_loop import AsyncioLoop
from orchestrator.worker.outside import MainThread, Outside
from orchestrator.worker.remote import RemoteRun
from orchestrator.worker.stage import OnTrio
from orchestrator.worker.wire import Channel, Link

if TYPE_CHECKING:
    import socket

    from orchestrator.worker.stage import Stage
    from orchestrator.worker.wire import Message


# Stages of agents that are not written for Trio.
_OUTSIDE: dict[str, type[Outside]] = {"sync": MainThread, "asyncio": AsyncioLoop}


def main(control: socket.socket, spec: Message) -> None:
    """Run the agent of a fresh worker process; the entry that the warden calls."""

    async def work(stage: Stage) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(control))
        await serve(stream, spec, stage, signals=spec["runtime"] == "trio")

    if spec["runtime"] == "trio":
        trio.run(work, OnTrio())
    else:
        stage = _OUTSIDE[spec["runtime"]]()
        stage.attend(partial(work, stage))


async def serve(
    stream: trio.abc.Stream, spec: Message, stage: Stage, *, signals: bool = False
) -> None:
    """Run the agent that the spec names, at the end of that stream, until it has ended.

    Args:
        signals: take SIGTERM for the last warning.
    """
    channel = Channel(stream)
    link = Link(channel)
    run = RemoteRun(link, spec)
    stage.begin(run)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.write)
        nursery.start_soon(run.timers.run)
        nursery.start_soon(_listen, channel, link, run, stage)
        if signals:
            nursery.start_soon(_hear_sigterm, run)
        try:
            link.tell("ended", **await _perform(run, spec, stage))
            with bounded(run.ladder.cleanup_s):
                await channel.flushed()
        finally:
            # Nothing else ends it, and so this process.
            run.timers.close()
        nursery.cancel_scope.cancel()


async def _perform(run: RemoteRun, spec: Message, stage: Stage) -> Message:
    """Run the agent's code and clean up after it; return how it ended."""
    ended: Message = {"how": "cancelled", "value": None, "error": None}
    try:
        ended = await _call(run, spec, stage, ended)
    except BaseException as error:
        cancelled, failure = split_cancelled(error)
        if failure is None:
            raise
        ended |= {"how": "raised", "error": to_jsonable_python(describe(failure))}
        if cancelled is not None:
            raise cancelled from None
    if run.gate.closed and ended["how"] != "returned":
        await compensate(run)  # type: ignore[arg-type]  # a run at a distance
    await stage.close()
    await _close_client(run)
    run.context.flush()
    return ended | {"compensated": run.compensated}


async def _call(run: RemoteRun, spec: Message, stage: Stage, ended: Message) -> Message:
    with run.scope, within(run.context):
        run.agent = await stage.load(spec["agent"])
        run.catalog.add(run.agent)
        arguments, _ = run.agent.parse(spec["input"])
        try:
            async with trio.open_nursery() as run.nursery:
                try:
                    with printable_errors():
                        value = await stage.call(run.agent, arguments)
                finally:
                    await close_servers(run)  # type: ignore[arg-type]  # a run at a distance
                ended |= {"how": "returned", "value": as_json(value, "result")}
        finally:
            run.nursery = None
        await run.gate.park()
    return ended


async def _close_client(run: RemoteRun) -> None:
    client = run.take_client()
    if client is None:
        return
    try:
        with bounded(run.ladder.cleanup_s):
            await client.aclose()
    except Exception as error:
        run.cleanup_failed(f"HTTP client: {type(error).__name__}: {in_words(error)}")
    run.client_closed()


async def _listen(channel: Channel, link: Link, run: RemoteRun, stage: Stage) -> None:
    """Take what the orchestrator says. Without it there is nobody to work for."""
    async for message in channel.messages():
        if "reply" in message:
            link.take_reply(message)
        elif "look" in message:
            stacks = to_jsonable_python(stage.stacks())
            link.tell("seen", look=message["look"], stacks=stacks)
        else:
            run.apply(message)
    run.apply({"stop": "kill", "left_s": 0, "held": False, "deadline_s": None, "reason": "gone"})
    link.fail()


async def _hear_sigterm(run: RemoteRun) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            run.last_warning()
