"""One command from its start to its end, and the rungs that make it end.

Three things make it end, each firmer than the one before: SIGINT once a stop is asked for, SIGTERM
once its time is up (the stop's grace, its own limit, or a cancellation from around it), SIGKILL
when the cleanup time is over. The last one is the deadline of a scope, ``_life``, in which
everything happens that waits for the command or for what it says.
"""

from __future__ import annotations

from math import inf
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING

import trio

from orchestrator.agents._command.output import BURST, CommandOutput, Reader
from orchestrator.agents._command.session import stand_back
from orchestrator.cleanup import bounded
from orchestrator.worker.output import Pace

if TYPE_CHECKING:
    from orchestrator.context import Context
    from orchestrator.model import Json
    from orchestrator.session import Session

# What still holds the pipes of a command that has exited is heard for so long.
LINGER_S = 2.0
# Then what it has left behind gets SIGTERM, and SIGKILL after so long.
LEFT_BEHIND_S = 1.0
# Of the cleanup time so much is kept for SIGKILL to take effect, though never more than half.
RESERVE_S = 0.4
# How often it is seen whether a kill has shortened the cleanup time.
LOOK_S = 0.05
# What there is to tell after a cut may take so long.
TELL_S = 0.1


class Attendance:
    """A command that runs.

    Attributes:
        stdout, stderr: what it says.
        status: its exit status, negative for a signal; None before it has ended.
        timed_out: its own time limit has ended it.
    """

    def __init__(self, ctx: Context, session: Session, limit_s: float | None) -> None:
        self._ctx = ctx
        self._session = session
        self._limit_s = inf if limit_s is None else limit_s
        self._began = trio.current_time()
        self._seconds = 0.0
        self._cut = trio.Event()
        self._time_is_up = trio.Event()
        self._life = bounded(inf)
        self._pace = Pace(BURST)
        self.stdout = CommandOutput(ctx, self._pace, "info", has_meaning=True)
        self.stderr = CommandOutput(ctx, self._pace, "warning", has_meaning=False)
        self.status: int | None = None
        self.timed_out = False

    @property
    def succeeded(self) -> bool:
        """Whether it exited with 0, and of its own accord."""
        return self.status == 0 and not self.timed_out

    @property
    def summary(self) -> dict[str, Json]:
        """How it ended and what it said last."""
        return {
            **self._ending(),
            "lines": {"stdout": self.stdout.lines, "stderr": self.stderr.lines},
            "left_out": self.stdout.left_out + self.stderr.left_out,
            "stdout_tail": self.stdout.tail,
            "stderr_tail": self.stderr.tail,
        }

    async def attend(self, stdin: str | None) -> None:
        """See the command to its end, and everything in its session.

        Raises:
            trio.Cancelled: its time was up, and nothing is left of it.
        """
        async with trio.open_nursery() as hearing:
            hearing.start_soon(self._hear_stop)
            hearing.start_soon(self._hear_cut)
            try:
                with self._life:
                    await self._work(stdin)
            finally:
                await self._finish()
            with bounded(TELL_S if self._cut.is_set() else inf):
                await self._tell_ending()
            hearing.cancel_scope.cancel()

    async def _hear_stop(self) -> None:
        await self._ctx.stopping.wait()
        self._pace.hurry()
        # A stop that cuts at once begins with the next rung.
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._tell_signal(SIGINT, self._session.signal(SIGINT))

    async def _hear_cut(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._cut.set()
            self._time_is_up.set()

    async def _work(self, stdin: str | None) -> None:
        readers = [
            Reader(self._session.process.stdout, self.stdout),
            Reader(self._session.process.stderr, self.stderr),
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_back, self._session)
            nursery.start_soon(self._feed, stdin)
            nursery.start_soon(self._press, nursery)
            async with trio.open_nursery() as reading:
                for reader in readers:
                    reading.start_soon(reader.read)
                await self._exit()
                for reader in readers:
                    reader.finish_by(trio.current_time() + LINGER_S)
            await self._end_what_is_left()
            nursery.cancel_scope.cancel()

    async def _exit(self) -> None:
        with trio.move_on_after(self._limit_s) as limit:
            await self._session.exited()
        if limit.cancelled_caught:
            self.timed_out = not self._time_is_up.is_set()
            self._time_is_up.set()
            await self._session.exited()
        self._seconds = trio.current_time() - self._began

    async def _feed(self, text: str | None) -> None:
        stream = self._session.process.stdin
        if stream is None or text is None:
            return
        try:
            await stream.send_all(text.encode())
            await stream.aclose()
        except trio.BrokenResourceError:
            pass  # it does not want to know

    async def _press(self, nursery: trio.Nursery) -> None:
        """Once its time is up make the command end, and see when that has taken long enough."""
        await self._time_is_up.wait()
        signalled = self._session.signal(SIGTERM)
        nursery.start_soon(self._tell_signal, SIGTERM, signalled)
        while True:
            left_s = self._ctx.cleanup_left_s
            until = trio.current_time() + left_s - min(RESERVE_S, left_s / 2)
            self._life.deadline = min(self._life.deadline, until)
            await trio.sleep(LOOK_S)

    async def _end_what_is_left(self) -> None:
        if not (left := self._session.members()):
            return
        text = f"it left {len(left)} processes behind when it exited, which are ended now"
        with trio.move_on_after(LEFT_BEHIND_S):
            self._session.signal(SIGTERM)
            await self._ctx.log(text, "warning")
            await self._session.emptied()

    async def _finish(self) -> None:
        """Kill what is left, and take the exit status.

        A stop has not come to its end while something is left that even SIGKILL does not end (it
        may be stuck in the kernel, or another user's), so then neither does this.
        """
        killed = set(await self._session.kill())
        while self._ctx.should_stop and self._session.members():
            killed.update(await self._session.kill())
        self._ctx._run.processes_killed(killed)
        self.status = await self._session.reap()
        self._seconds = self._seconds or trio.current_time() - self._began

    async def _tell_signal(self, number: Signals, signalled: list[int]) -> None:
        data = {"signal": number.name, "processes": len(signalled)}
        await self._ctx.emit("command.signalled", data)

    async def _tell_ending(self) -> None:
        await self._ctx.emit("command.exited", self._ending())
        if not self.succeeded and not self.stdout.has_partial:
            await self._ctx.partial(self.summary)

    def _ending(self) -> dict[str, Json]:
        status = self.status
        return {
            "exit_code": status if status is not None and status >= 0 else None,
            "signal": name_of(-status) if status is not None and status < 0 else None,
            "seconds": round(self._seconds, 3),
            "timed_out": self.timed_out,
        }


def name_of(number: int) -> str:
    """Return the name of a signal, as far as it has one."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
