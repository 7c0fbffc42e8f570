"""What a worker's run asks of the orchestrator, each in the form of what it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agent import Agent, as_json
from orchestrator.errors import check_text
from orchestrator.faults import check_seconds
from orchestrator.references import reference_of
from orchestrator.sections import forbid_inside_operation
from orchestrator.shapes import Shape
from orchestrator.store.protocol import StoredStep
from orchestrator.store.writes import DropData, SaveArtifact, SaveData, SavePartial, SaveStep
from orchestrator.subagents import map_calls
from orchestrator.worker.wire import pack_bytes, read_receipt, unpack_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model import Receipt, RunId
    from orchestrator.store.writes import Write
    from orchestrator.worker.wire import Link, Message


class RemoteJournal:
    """What waits for the store waits for the orchestrator's."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def room(self) -> None:
        await trio.lowlevel.checkpoint()
        await self._link.channel.room()

    def append(self, writes: Sequence[Write], *, urgent: bool = False) -> int:
        self._link.tell("write", writes=[pack_write(write) for write in writes])
        return 0

    async def durable(self, ticket: int) -> None:
        await self._link.ask("durable")

    async def stored(self, ticket: int) -> None:
        await self._link.ask("stored")


class RemoteStore:
    """The reads that agents make."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def steps(self, root_id: str) -> list[StoredStep]:
        found = await self._link.ask("steps")
        return [StoredStep(path, name, unpack_bytes(value)) for path, name, value in found]

    async def data(self, owner: str, namespace: str, key: str) -> bytes | None:
        found = await self._link.ask("data", namespace=namespace, key=key)
        return None if found is None else unpack_bytes(found)

    async def data_keys(
        self, owner: str, namespace: str, *, prefix: str, after: str, limit: int
    ) -> list[str]:
        asked = {"namespace": namespace, "prefix": prefix, "after": after, "limit": limit}
        found: list[str] = await self._link.ask("data_keys", **asked)
        return found

    async def artifact(self, run_id: str, name: str) -> bytes | None:
        found = await self._link.ask("artifact", name=check_text("name", name))
        return None if found is None else unpack_bytes(found)


class RemoteQuestions:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def ask(self, question: str, wanted: Any, within_s: float | None) -> Any:
        check_text("question", question)
        if within_s is not None:
            check_seconds("within_s", within_s)
        shape = Shape(wanted)
        forbid_inside_operation("a question")
        asked = {"question": question, "schema": shape.schema, "within_s": within_s}
        return shape.read(await self._link.ask("question", **asked), "answer")


class RemoteSubAgents:
    def __init__(self, link: Link) -> None:
        self._link = link

    async def call(self, agent: Agent | str, given: dict[str, Any]) -> Any:
        return await self._start("call", agent, given)

    async def map(
        self, agent: Agent | str, inputs: Sequence[Mapping[str, Any]], limit: int | None
    ) -> list[Any]:
        return await map_calls(self.call, agent, inputs, limit)

    async def start(self, agent: Agent | str, given: dict[str, Any]) -> RemoteChild:
        return RemoteChild(self._link, await self._start("start", agent, given))

    async def start_detached(self, agent: Agent | str, given: dict[str, Any]) -> RunId:
        found: RunId = await self._start("start_detached", agent, given)
        return found

    async def _start(self, do: str, agent: Agent | str, given: dict[str, Any]) -> Any:
        if not isinstance(agent, Agent | str):
            raise TypeError(f"{agent!r} is no agent; put @agent above the function")
        named = agent if isinstance(agent, str) else agent.name
        forbid_inside_operation(f"sub-agent {named}")
        where = None if isinstance(agent, str) else reference_of(agent)
        asked = {"label": named, "agent": where, "input": as_json(given, "input")}
        return await self._link.ask(do, **asked)


class RemoteChild:
    """A sub-agent that was started and not waited for."""

    def __init__(self, link: Link, run_id: RunId) -> None:
        self._link = link
        self.id = run_id

    async def wait(self) -> Any:
        return await self._link.ask("wait", run_id=self.id)

    async def stop(self, *, grace_s: float | None = None, reason: str = "") -> Receipt:
        if grace_s is not None:
            check_seconds("grace_s", grace_s)
        check_text("reason", reason)
        asked = {"run_id": self.id, "grace_s": grace_s, "reason": reason}
        return read_receipt(await self._link.ask("stop_child", **asked))


def pack_write(write: Write) -> Message:
    """Return a write as a message."""
    match write:
        case SavePartial():
            return {"partial": pack_bytes(write.value)}
        case SaveStep():
            return {"step": [write.path, write.name, pack_bytes(write.value)]}
        case SaveArtifact():
            about = {"name": write.name, "media_type": write.media_type, "append": write.append}
            return {"artifact": about, "data": pack_bytes(write.data)}
        case SaveData():
            return {"data": [write.namespace, write.key, pack_bytes(write.value)]}
        case DropData():
            return {"drop": [write.namespace, write.key]}
        case _:
            raise TypeError(f"a worker writes no {type(write).__name__}")
