"""The warden of worker processes: the orchestrator's door to them."""

from __future__ import annotations

import contextvars
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.worker.errors import WardenUnavailable, WorkerNotStarted
from orchestrator.worker.kernel import check_system, subreaping
from orchestrator.worker.lifeline import Lifeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from orchestrator.worker.process import WorkerProcess
    from orchestrator.worker.values import WorkerSpec

# More than all the bounds within, so that it is met only if one of those fails.
_CLOSE_S = 30.0


class Warden:
    """Starts worker processes, and a warden for them whenever there is none.

    Made by ``open_warden``.
    """

    def __init__(self, nursery: trio.Nursery, max_workers: int, preload: Sequence[str]) -> None:
        self._nursery = nursery
        self._slots = trio.CapacityLimiter(max_workers)
        self._preload = preload
        self._line: Lifeline | None = None
        self._starting = trio.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The warden's own process; None if there is none at present."""
        return None if self._line is None else self._line.pid

    @property
    def forks(self) -> bool:
        """Whether workers are forked; False if modules started threads, so that it is not safe."""
        return self._line is None or self._line.threads == 1

    async def ready(self) -> None:
        """Start the warden if there is none, which takes about as long as the imports.

        A checkpoint. ``start`` does that too; this is to have it done beforehand.

        Raises:
            WardenUnavailable: it does not start, or this is closed.
        """
        await self._living()

    async def start(
        self, spec: WorkerSpec, spare: trio.CapacityLimiter | None = None
    ) -> WorkerProcess:
        """Start a worker; wait while there are ``max_workers`` of them. A checkpoint.

        A worker counts until nothing is left of it. Cancelled, this leaves none.

        Args:
            spare: may be taken instead of one of the ``max_workers``.

        Returns:
            The worker, which is alive or just was: that it cannot import its entry, say, is
            seen from its stderr and its death.

        Raises:
            WorkerNotStarted: the system has no room for another process, or the warden died.
            WardenUnavailable: the warden does not start, or this is closed.
            TypeError, ValueError: the spec's argument has no JSON form.
        """
        release = await _take_one(self._slots, *([] if spare is None else [spare]))
        try:
            line = await self._living()
            worker = line.order_worker(spec, release)
        except OSError as error:
            release()
            raise WorkerNotStarted(f"no worker was started: {error}") from error
        except BaseException:
            release()
            raise
        return await line.begin(worker)

    async def aclose(self) -> None:
        """End all workers, then the warden. Bounded; may be called twice. A checkpoint."""
        self._closed = True
        with bounded(_CLOSE_S):
            if self._line is not None:
                await self._line.aclose()

    async def _living(self) -> Lifeline:
        async with self._starting:
            if self._line is not None and self._line.failure is not None:
                # What it left behind is being ended; a new one comes after that.
                await self._line.over.wait()
                self._line = None
            if self._closed:
                raise WardenUnavailable("no worker is started any more: the warden is closed")
            if self._line is None:
                self._line = Lifeline(self._preload)
                # In a context of its own: it outlives whoever happens to need it first.
                contextvars.Context().run(self._nursery.start_soon, self._line.serve)
            line = self._line
            await line.ready.wait()
        if line.failure is not None:
            raise WardenUnavailable(f"the warden of workers does not start: {line.failure}")
        return line


async def _take_one(*limiters: trio.CapacityLimiter) -> Callable[[], None]:
    """Take a slot of whichever limiter has one first; return what gives it back."""
    slot, taken = object(), list[trio.CapacityLimiter]()

    async def take(limiter: trio.CapacityLimiter) -> None:
        await limiter.acquire_on_behalf_of(slot)
        taken.append(limiter)
        nursery.cancel_scope.cancel(reason="a slot is taken")

    kept = 0
    try:
        async with trio.open_nursery() as nursery:
            for limiter in limiters:
                nursery.start_soon(take, limiter)
        kept = 1
    finally:
        for limiter in taken[kept:]:
            limiter.release_on_behalf_of(slot)
    return partial(taken[0].release_on_behalf_of, slot)


@asynccontextmanager
async def open_warden(
    *, max_workers: int = 64, preload: Sequence[str] = ()
) -> AsyncIterator[Warden]:
    """Open the way to worker processes; leaving the block ends them all.

    While it is open this process is a child subreaper: orphans below it become its children.
    The warden itself is started with the first worker.

    Args:
        max_workers: how many there may be at a time.
        preload: modules that the warden imports, for workers to have at once. Best such as
            start no threads: otherwise workers are fresh interpreters, which start slowly.

    Raises:
        WardenUnavailable: the system cannot hold and find processes; it says what is missing.
    """
    check_system()
    failure: Exception | None = None
    with subreaping():
        async with trio.open_nursery() as nursery:
            warden = Warden(nursery, max_workers, preload)
            try:
                yield warden
            except Exception as error:
                # Raised outside the nursery, which would wrap it.
                failure = error
            finally:
                await warden.aclose()
    if failure is not None:
        raise failure
