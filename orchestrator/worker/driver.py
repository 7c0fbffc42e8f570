"""The orchestrator's side of a worker: what takes the place of the agent's code in its run.

The run is a run like any other: it is stopped, paused and settled by the same code. What is in
flight in the worker is in flight in the run's gate as well; sub-agents that the worker calls are
runs below this one, in this process or in workers of their own. Only the last rung differs:
a process can be killed.
"""

from __future__ import annotations

import codecs
import itertools
import os
from contextlib import aclosing
from dataclasses import replace
from math import inf
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any, Protocol

import trio
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from orchestrator.cleanup import bounded
from orchestrator.errors import InvalidInput, OrchestratorError, WorkerDied
from orchestrator.events import RunLog
from orchestrator.model import RunError, StopMode, StopSource
from orchestrator.references import reference_of
from orchestrator.stack import Frame, TaskStack
from orchestrator.stopping import in_words
from orchestrator.worker.desk import Desk
from orchestrator.worker.errors import NotEnded
from orchestrator.worker.output import Output, Pace
from orchestrator.worker.wire import Channel

if TYPE_CHECKING:
    from orchestrator.apart import ProcessLimits
    from orchestrator.run import Run
    from orchestrator.worker.process import WorkerProcess
    from orchestrator.worker.wire import Message

# So many lines of its output may be told at once.
BURST = 10_000
# Between two reads of its output, which are of 64 KiB at most.
REST_S = 0.005
# How long a worker that has said its last word, or just dies, may take to exit by itself.
EXIT_S = 1.0
# How long its output may take to be read to the end, once it is gone.
DRAIN_S = 5.0

# How long a worker may take to say where its code stands.
LOOK_S = 0.5

_GARBLED = "was killed, since the agent's code wrote to its file descriptor 3, which is not its own"
_CLOSED = "was killed, since the agent's code closed its file descriptor 3, which is not its own"

_ERROR = TypeAdapter(RunError)
_STACKS = TypeAdapter(list[TaskStack])


class RemoteFailure(OrchestratorError):
    """What the agent raised in its worker, in words."""

    def __init__(self, error: RunError) -> None:
        self.error = error
        super().__init__(f"{error.type}: {error.message}")


class Workers(Protocol):
    """What starts worker processes."""

    async def start(
        self, spec: Message, limits: ProcessLimits, spare: trio.CapacityLimiter | None
    ) -> WorkerProcess:
        """Start one that runs the agent of the spec. A checkpoint; may wait for its turn."""

    def close(self) -> None:
        """End them all. May be called twice."""


def spec_of(run: Run) -> Message:
    """Return what a worker must know to run the agent's code.

    Raises:
        InvalidInput: the code cannot be imported by another process, or its folder is none.
    """
    cwd = run.agent.limits.cwd
    if cwd is not None and not os.path.isdir(cwd):
        raise InvalidInput([("cwd", f"there is no folder {cwd!r} for the agent to work in")])
    return {
        "agent": reference_of(run.agent),
        "runtime": run.agent.runtime,
        "input": run.record.input,
        "record": to_jsonable_python(run.record),
        "path": run.path,
        "traceparent": run.traceparent(),
        "agents": [
            {"name": each.name, "description": each.description, "input_schema": each.input_schema}
            for each in run.services.catalog
        ],
    }


async def work_elsewhere(run: Run) -> Any:
    """Run the agent's code in a process of its own; see ``Worker.work``.

    Raises:
        InvalidInput: the code cannot be imported by another process, or its folder is none.
    """
    above = next((each.worker for each in run.lineage() if each.worker is not None), None)
    spare = None if above is None else above.spare
    process = await run.services.workers.start(spec_of(run), run.agent.limits, spare)
    return await Worker(run, process).work()


class Worker:
    """A worker at work for one run.

    Attributes:
        stacks: where the run's code stood when the worker was last asked.
        spare: one worker below this one, beyond the number that there may be. Otherwise runs that
            have all of them would wait for ever for sub-agents that want one.
    """

    def __init__(self, run: Run, process: WorkerProcess) -> None:
        self._run = run
        self._process = process
        self._channel = Channel(process.control)
        self.spare = trio.CapacityLimiter(1)
        self._over = trio.Event()
        self._ended: Message | None = None
        self._garbled: Exception | None = None
        self._killed: set[int] = set()
        self._pace = Pace(BURST)
        self._looks = itertools.count(1)
        self._seen: dict[int, trio.Event] = {}
        self.stacks = [self._unknown("")]

    async def work(self) -> Any:
        """Attend the worker until it is gone, and return what its agent returned.

        A stop reaches it as a message, so this is shielded; what ends it for certain is
        ``kill``.

        Raises:
            RemoteFailure: the agent raised.
            WorkerDied: the process ended before its agent did.
            trio.Cancelled: the run was stopped.
        """
        run = self._run
        assert run.nursery is not None
        run.nursery.start_soon(self._hear_cancellation)
        run.worker = self
        run.gate.changed = self._show_gate
        try:
            with bounded(inf):
                try:
                    await self._attend()
                finally:
                    # Whatever has failed here, nothing of it may outlive its run.
                    await self.kill()
        finally:
            self._process.close_streams()
            run.gate.changed = None
            run.worker = None
            self._over.set()
        return await self._outcome()

    async def look(self) -> None:
        """Ask where the run's code stands, for ``stacks``. A checkpoint, and bounded."""
        if self._ended is not None:
            self.stacks = [self._unknown("has done its work, and is not yet seen to be gone")]
            return
        number = next(self._looks)
        seen = self._seen[number] = trio.Event()
        self._channel.send({"look": number})
        with trio.move_on_after(LOOK_S):
            await seen.wait()
        del self._seen[number]
        if not seen.is_set():
            self.stacks = [self._unknown("does not answer")]

    def _unknown(self, why: str) -> TaskStack:
        where = Frame(f"process {self._process.pid} {why}".rstrip(), 0, "")
        return TaskStack(self._run.id, self._run.agent.name, "", (where,))

    def terminate(self) -> None:
        """Send SIGTERM to everything in the worker. Not a checkpoint."""
        self._process.terminate()

    async def kill(self) -> None:
        """End everything in the worker, and wait until nothing is left of it."""
        try:
            self._killed.update(await self._process.kill())
        except NotEnded as error:
            # The kernel holds it, in a system call that nothing interrupts.
            self._run.cleanup_failed(str(error))

    async def _attend(self) -> None:
        async with trio.open_nursery() as nursery:
            desk = Desk(self._run, self._channel, nursery)
            nursery.start_soon(self._channel.write)
            self._show_gate()
            async with trio.open_nursery() as logs:
                logs.start_soon(self._tell, self._process.stdout, "info")
                logs.start_soon(self._tell, self._process.stderr, "warning")
                await self._listen(desk)
                with trio.move_on_after(0 if self._garbled else EXIT_S):
                    await self._process.exited.wait()
                await self.kill()
                # What it wrote before it ended is in the pipes still.
                logs.cancel_scope.deadline = trio.current_time() + DRAIN_S
            self._account_for_its_end()
            desk.close()
            nursery.cancel_scope.cancel()

    async def _listen(self, desk: Desk) -> None:
        """Do what the worker asks for, until it is gone, or says what none of ours says."""
        try:
            async with aclosing(self._channel.messages()) as messages:
                async for message in messages:
                    await self._take(message, desk)
        except Exception as error:
            self._garbled = error

    async def _take(self, message: Message, desk: Desk) -> None:
        if message["do"] == "seen":
            self._take_look(message)
        elif message["do"] == "ended":
            self._ended = message
            self._run.compensated |= message["compensated"]
        else:
            await desk.take(message)

    def _take_look(self, message: Message) -> None:
        if (seen := self._seen.get(message["look"])) is not None:
            self.stacks = _STACKS.validate_python(message["stacks"])
            seen.set()

    def _account_for_its_end(self) -> None:
        """Say on the receipts who was killed, and what the agent's code did not come to do."""
        run, death = self._run, self._process.death
        if self._ended is None and death is not None:
            if death.signal in (SIGTERM, SIGKILL):
                self._killed.add(self._process.pid)
            killed = self._process.pid in self._killed
            if not killed and self._garbled is None:
                run.cleanup_failed(f"its process ended before its code did: {death.words}")
            if lost := run.remote_compensations:
                how = "was killed" if killed else "ended"
                what = "1 compensation was" if lost == 1 else f"{lost} compensations were"
                run.cleanup_failed(f"{what} not done: the process {how}")
        for each in run.stopping_lineage():
            each.ladder.account.note_killed(self._killed)

    async def _outcome(self) -> Any:
        ended = self._ended
        if self._garbled is not None:
            raise WorkerDied(_GARBLED) from self._garbled
        if ended is None:
            await trio.lowlevel.checkpoint_if_cancelled()
            death = self._process.death
            assert death is not None
            # Nobody has asked for a stop, so it was alive when its connection had ended.
            closed = self._process.pid in self._process.killed and not death.lost
            raise WorkerDied(_CLOSED if closed else death.words)
        if ended["how"] == "returned":
            return ended["value"]
        if ended["how"] == "raised":
            raise RemoteFailure(self._explained(_ERROR.validate_python(ended["error"])))
        await trio.lowlevel.checkpoint_if_cancelled()
        raise WorkerDied("its agent was cancelled, but nobody asked for a stop")

    def _explained(self, error: RunError) -> RunError:
        """Say of a lack of memory which limit it is for."""
        memory_mib = self._run.agent.limits.memory_mib
        if error.type != MemoryError.__name__ or memory_mib is None:
            return error
        return replace(error, message=f"ran out of memory: its limit is {memory_mib} MiB")

    async def _hear_cancellation(self) -> None:
        """Take a cancellation from around the run for a stop."""
        try:
            await self._over.wait()
        except trio.Cancelled:
            if self._run.ladder.stop is None:
                self._run.request_stop(
                    mode=StopMode.NOW, source=StopSource.PARENT, reason="cancelled from outside"
                )
            raise

    def _show_gate(self) -> None:
        """Tell the worker what is decided about its run now."""
        run, now = self._run, trio.current_time()
        stop = run.ladder.stop
        if stop is not None:
            self._pace.hurry()
        self._channel.send(
            {
                "stop": None if stop is None else stop.mode,
                "left_s": max(0.0, run.gate.until - now) if stop is not None else 0.0,
                "held": run.gate.held,
                "deadline_s": None if run.deadline == inf else run.deadline - now,
                "reason": "" if stop is None else in_words(stop.request),
            }
        )

    async def _tell(self, stream: trio.abc.ReceiveStream, level: str) -> None:
        """Tell what the worker prints on one of its streams."""
        output = Output(self._say, self._pace, level)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for chunk in stream:
            await output.take(decoder.decode(chunk))
            # What prints without an end has to wait, and not the loop that is to stop it.
            await trio.sleep(REST_S)
        await output.take(decoder.decode(b"", final=True))
        await output.end()

    async def _say(self, line: str, level: str) -> None:
        await self._run.journal.room()
        self._run.tell(RunLog(level, line))
