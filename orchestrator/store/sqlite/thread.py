"""The one thread that writes.

``trio.to_thread`` takes a token, copies the context and names the thread anew for each call, which
together cost as much as a small transaction. Here the calls are many, short and one at a time.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_GoOn: TypeAlias = "Callable[[outcome.Outcome[object]], None]"
_Job: TypeAlias = "tuple[Callable[[], object], _GoOn, trio.lowlevel.TrioToken]"


class WorkThread:
    """A thread that makes calls in the order in which they are asked for."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # It must not keep a process whose disk does not answer.
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[], T], then: Callable[[], None] | None = None) -> T:
        """Make the call and return what it returns, or raise what it raises.

        A checkpoint. Once the call waits for its turn, a cancellation waits for its end.

        Args:
            then: called in the loop when the call has returned, a turn of the loop before this
                returns; what it raises is raised here.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        self._jobs.put((call, partial(_go_on, task, then), token))
        return cast("T", await trio.lowlevel.wait_task_rescheduled(_not_now))

    def close(self) -> None:
        """Wait for the calls that were asked for, and end the thread. Called once."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, go_on, token = job
            done = outcome.capture(call)
            # A loop that has broken down hears of nothing any more.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(go_on, done)


def _go_on(
    task: trio.lowlevel.Task, then: Callable[[], None] | None, done: outcome.Outcome[object]
) -> None:
    if then is not None and isinstance(done, outcome.Value):
        after = outcome.capture(then)
        done = after if isinstance(after, outcome.Error) else done
    trio.lowlevel.reschedule(task, done)


def _not_now(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
