"""The worker's side of a run: its agent's code in a Trio loop of its own, and then the clean-up."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import trio
from pydantic_core import to_jsonable_python

from orchestrator.agent import as_json
from orchestrator.cleanup import bounded
from orchestrator.context import within
from orchestrator.errors import in_words
from orchestrator.references import load_reference
from orchestrator.supervise import compensate, describe, split_cancelled
from orchestrator.worker.remote import RemoteRun
from orchestrator.worker.wire import Channel, Link

if TYPE_CHECKING:
    import socket

    from orchestrator.agent import Agent
    from orchestrator.worker.wire import Message


def main(control: socket.socket, spec: Message) -> None:
    """Run the agent of a fresh worker process; the entry that the warden calls."""

    async def work() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(control))
        await serve(stream, spec, signals=True)

    trio.run(work)


async def serve(stream: trio.abc.Stream, spec: Message, *, signals: bool = False) -> None:
    """Run the agent that the spec names, at the end of that stream, until it has ended.

    Args:
        signals: take SIGTERM for the last warning.
    """
    channel = Channel(stream)
    link = Link(channel)
    run = RemoteRun(link, spec)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.write)
        nursery.start_soon(run.timers.run)
        nursery.start_soon(_listen, channel, link, run)
        if signals:
            nursery.start_soon(_hear_sigterm, run)
        link.tell("ended", **await _perform(run, spec))
        with bounded(run.ladder.cleanup_s):
            await channel.flushed()
        run.timers.close()
        nursery.cancel_scope.cancel()


async def _perform(run: RemoteRun, spec: Message) -> Message:
    """Run the agent's code and clean up after it; return how it ended."""
    ended: Message = {"how": "cancelled", "value": None, "error": None}
    try:
        agent = load_reference(spec["agent"])
        run.agent = agent
        run.catalog.add(agent)
        ended = await _call(run, agent, spec["input"], ended)
    except BaseException as error:
        cancelled, failure = split_cancelled(error)
        if failure is None:
            raise
        ended |= {"how": "raised", "error": to_jsonable_python(describe(failure))}
        if cancelled is not None:
            raise cancelled from None
    if run.gate.closed and ended["how"] != "returned":
        await compensate(run)  # type: ignore[arg-type]  # a run at a distance
    await _close_client(run)
    run.context.flush()
    return ended | {"compensated": run.compensated}


async def _call(run: RemoteRun, agent: Agent, given: Any, ended: Message) -> Message:
    with run.scope, within(run.context):
        arguments, _ = agent.parse(given)
        async with trio.open_nursery() as run.nursery:
            value = await agent.function(run.context, **arguments)
            ended |= {"how": "returned", "value": as_json(value, "result")}
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


async def _listen(channel: Channel, link: Link, run: RemoteRun) -> None:
    """Take what the orchestrator says. Without it there is nobody to work for."""
    async for message in channel.messages():
        if "reply" in message:
            link.take_reply(message)
        else:
            run.apply(message)
    run.apply({"stop": "kill", "left_s": 0, "held": False, "deadline_s": None, "reason": "gone"})
    link.fail()


async def _hear_sigterm(run: RemoteRun) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            run.killed = True
            run.gate.revoke()
            run.scope.cancel(reason="SIGTERM")
