"""Where the orchestrator does what a worker asks for, on behalf of its run."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import trio
from pydantic_core import to_jsonable_python

from orchestrator.events import RunProgress, UserEvent
from orchestrator.model import Progress, Usage
from orchestrator.operations import CRITICAL
from orchestrator.references import load_reference
from orchestrator.sections import in_holding_section, standing_in
from orchestrator.store.writes import DropData, SaveArtifact, SaveData, SavePartial, SaveStep
from orchestrator.worker.wire import pack_bytes, pack_error, unpack_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator.agent import Agent
    from orchestrator.run import Run
    from orchestrator.sections import Section
    from orchestrator.store.writes import Write
    from orchestrator.subagents import StartedChild
    from orchestrator.worker.wire import Channel, Message


# What starts nothing: it goes on after a stop for as long as what it is for does in the worker.
_SHIELDED = ("durable", "stored", "steps", "data", "data_keys", "artifact")


class Desk:
    """One worker's requests. What takes time is done in tasks of the run, which a stop cancels;
    what is asked for inside a section that holds the stop back, in tasks that it does not."""

    def __init__(self, run: Run, channel: Channel, shielded: trio.Nursery) -> None:
        self._run = run
        self._channel = channel
        self._shielded = shielded
        self._calls: dict[int, trio.CancelScope] = {}
        self._operations: dict[int, Section] = {}
        self._holding: dict[int, Section] = {}
        self._children: dict[str, StartedChild] = {}

    async def take(self, message: Message) -> None:
        """Do what a message asks for, or begin to. Waits only while the journal is full."""
        do = message["do"]
        if "id" not in message:
            await self._run.journal.room()
            getattr(self, f"_do_{do}")(message)
            return
        work: Callable[[Message], Awaitable[Any]] = getattr(self, f"_{do}")
        inside = self._holding.get(message["inside"] or 0)
        shielded = inside is not None or do in _SHIELDED
        nursery = self._shielded if shielded else self._run.nursery
        assert nursery is not None
        # Known before it begins, so that a cancellation that comes next finds it.
        self._calls[message["id"]] = trio.CancelScope()
        nursery.start_soon(self._answer, message, work, inside)

    def close(self) -> None:
        """The worker is gone: end what it had begun and not ended."""
        for section in self._operations.values():
            self._run.gate.leave(section, cut=True, error=None)
        for section in self._holding.values():
            self._run.gate.end(section, cut=True)
        for scope in self._calls.values():
            scope.cancel(reason="its worker is gone")

    async def _answer(
        self,
        message: Message,
        work: Callable[[Message], Awaitable[Any]],
        inside: Section | None,
    ) -> None:
        reply: Message = {"cancelled": True}
        try:
            with (
                self._calls[message["id"]],
                standing_in(inside) if inside is not None else nullcontext(),
            ):
                reply = {"value": to_jsonable_python(await work(message))}
        except Exception as error:
            reply = {"error": pack_error(error)}
        finally:
            del self._calls[message["id"]]
            self._channel.send({"reply": message["id"], **reply})

    # What needs no answer

    def _do_cancel(self, message: Message) -> None:
        if (scope := self._calls.get(message["of"])) is not None:
            scope.cancel(reason="cancelled by the worker")

    def _do_tell(self, message: Message) -> None:
        writes = [self._write(packed) for packed in message["writes"]]
        self._run.tell(UserEvent(message["type"], message["data"]), *writes)

    def _do_write(self, message: Message) -> None:
        writes = [self._write(packed) for packed in message["writes"]]
        self._run.ledger.ticket = self._run.journal.append(writes, urgent=True)

    def _do_progress(self, message: Message) -> None:
        progress = Progress(**message["data"])
        payload = RunProgress(progress.percent, progress.message)
        self._run.save(payload=payload, progress=progress)

    def _do_spend(self, message: Message) -> None:
        self._run.spend(Usage(**message["usage"]))

    def _do_leave(self, message: Message) -> None:
        section = self._operations.pop(message["number"])
        self._run.gate.leave(section, cut=message["cut"], error=message["error"])

    def _do_begin(self, message: Message) -> None:
        gate, around = self._run.gate, self._holding.get(message["inside"] or 0)
        is_within = around is not None or in_holding_section()
        if gate.closed and not is_within and message["kind"] == CRITICAL:
            # The worker had not heard of the stop. It is not cut where it is, as it may have
            # begun in earnest; but it holds nothing back, and nothing starts in it.
            return
        section = gate.begin(message["kind"], message["label"], message["holds_s"])
        # Nor, perhaps, had it heard of the pause.
        section.parks = gate.held and (around is None or around.parks)
        self._holding[message["number"]] = section
        self._run.ladder.rearm()

    def _do_end(self, message: Message) -> None:
        section = self._holding.pop(message["number"], None)
        if section is None:  # it was late
            for each in self._run.stopping_lineage():
                each.ladder.account.critical_cut |= message["cut"]
            return
        self._run.gate.end(section, cut=message["cut"])
        self._run.ladder.rearm()

    def _do_refused(self, message: Message) -> None:
        self._run.operation_refused()

    def _do_compensations(self, message: Message) -> None:
        self._run.remote_compensations = message["count"]

    def _do_cleanup_failed(self, message: Message) -> None:
        self._run.cleanup_failed(message["what"])

    def _do_processes_killed(self, message: Message) -> None:
        self._run.processes_killed(message["pids"])

    def _do_client_closed(self, message: Message) -> None:
        self._run.client_closed()

    def _write(self, packed: Message) -> Write:
        run = self._run
        match packed:
            case {"partial": value}:
                run.has_partial = True
                return SavePartial(run.id, unpack_bytes(value))
            case {"step": [path, name, value]}:
                return SaveStep(run.record.root_id, path, name, unpack_bytes(value))
            case {"artifact": about, "data": data}:
                return SaveArtifact(run.id, data=unpack_bytes(data), **about)
            case {"data": [namespace, key, value]}:
                owner = run.record.owner
                return SaveData(run.id, owner, namespace, key, unpack_bytes(value))
            case {"drop": [namespace, key]}:
                return DropData(run.record.owner, namespace, key)
            case _:
                raise ValueError(f"a worker sent no write: {packed!r}")

    # What is answered

    async def _admit(self, message: Message) -> None:
        await self._run.gate.admit(message["kind"], message["label"])

    async def _enter(self, message: Message) -> int:
        section = await self._run.gate.enter(message["kind"], message["label"], message["effect"])
        self._operations[section.number] = section
        return section.number

    async def _park(self, message: Message) -> None:
        await self._run.gate.park()

    async def _durable(self, message: Message) -> None:
        await self._run.journal.durable(self._run.ticket)

    async def _stored(self, message: Message) -> None:
        await self._run.journal.stored(self._run.ticket)

    async def _steps(self, message: Message) -> list[tuple[str, str, str]]:
        found = await self._run.store.steps(self._run.record.root_id)
        return [(step.path, step.name, pack_bytes(step.value)) for step in found]

    async def _data(self, message: Message) -> str | None:
        owner = self._run.record.owner
        found = await self._run.store.data(owner, message["namespace"], message["key"])
        return None if found is None else pack_bytes(found)

    async def _data_keys(self, message: Message) -> list[str]:
        return await self._run.store.data_keys(
            self._run.record.owner,
            message["namespace"],
            prefix=message["prefix"],
            after=message["after"],
            limit=message["limit"],
        )

    async def _artifact(self, message: Message) -> str | None:
        found = await self._run.store.artifact(self._run.id, message["name"])
        return None if found is None else pack_bytes(found)

    async def _question(self, message: Message) -> Any:
        questions = self._run.questions
        return await questions.ask(message["question"], message["schema"], message["within_s"])

    async def _call(self, message: Message) -> Any:
        return await self._run.subagents.call(self._agent(message), message["input"])

    async def _start(self, message: Message) -> str:
        child = await self._run.subagents.start(self._agent(message), message["input"])
        self._children[child.id] = child
        return child.id

    async def _start_detached(self, message: Message) -> str:
        return await self._run.subagents.start_detached(self._agent(message), message["input"])

    async def _wait(self, message: Message) -> Any:
        return await self._children[message["run_id"]].wait()

    async def _stop_child(self, message: Message) -> Any:
        child = self._children[message["run_id"]]
        return await child.stop(grace_s=message["grace_s"], reason=message["reason"])

    def _agent(self, message: Message) -> Agent | str:
        catalog = self._run.services.catalog
        if message["agent"] is None or message["label"] in catalog:
            named: str = message["label"]
            return named
        return load_reference(message["agent"])
