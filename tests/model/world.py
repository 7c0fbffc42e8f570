"""Plays a story in virtual time: the outside world, crashes included."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING
from unittest.mock import patch

import trio

from orchestrator import OrchestratorError, RunStatus, UnknownRun, open_orchestrator
from orchestrator.testing import VirtualTime
from orchestrator.testing.chance import seeded
from tests.model import after, model
from tests.model.deeds import Deeds
from tests.model.disk import Mount
from tests.model.flight import wall
from tests.model.life import Life
from tests.model.player import Player
from tests.model.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator import Event, RunRecord
    from tests.model.story import Story

# Longer than any program takes that nobody pauses.
LONG_S = 5_000.0


class World(Deeds):
    """Plays one story; ``trace`` says afterwards what happened, and what was wrong.

    Attributes:
        seen: by root, what clients have seen of its feed.
        settled: records that were terminal in the store when the process died.
        fates: of the others, in which life it died, how they may end, and whether they may
            begin again.
    """

    def __init__(self, story: Story, nursery: trio.Nursery, time: VirtualTime) -> None:
        super().__init__(story.latency_s)
        self.story = story
        self.seen: dict[str, list[Event]] = {}
        self.settled: dict[str, RunRecord] = {}
        self.fates: dict[str, tuple[int, set[RunStatus], bool]] = {}
        self.lives = 0
        self._nursery = nursery
        self._time = time

    async def play(self) -> None:
        """Play the story from its beginning to its end."""
        self.life = await self._open()
        for act in self.story.acts:
            await trio.sleep(act.after_s)
            for _ in range(act.turns):
                await trio.lowlevel.checkpoint()
            await self.do(act.deed)
            self._follow()
        await self._finish()
        await after.check(self)

    # Lives

    async def _open(self) -> Life:
        await trio.sleep_until(self.disk.broken_until)
        mount = Mount(self.disk)
        watch = Watch(self.lives, self.trace, self.durable, self._time.give_up)
        life = Life(self.lives, mount, watch, Player(self.scripts, watch))
        self.lives += 1
        await self._nursery.start(self._live, life)
        return life

    async def _live(
        self, life: Life, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        @asynccontextmanager
        async def mounted(url: str) -> AsyncIterator[Mount]:
            yield life.mount

        trio.lowlevel.add_instrument(life.watch)
        # Clients may look on after the orchestrator was left.
        async with trio.open_nursery() as life.nursery, AsyncExitStack() as stack:
            with (
                patch("orchestrator.runtime.open_store", mounted),
                patch("orchestrator.runtime.Registry", lambda: life.watch.registry),
            ):
                opening = open_orchestrator(agents=life.player.agents, now=wall)
                life.orchestrator = await stack.enter_async_context(opening)
            task_status.started()
            await life.leave.wait()
            await stack.aclose()
            life.watch.look()
            life.over.set()
        trio.lowlevel.remove_instrument(life.watch)

    async def crash(self, down_s: float) -> None:
        """Let the process die in this step; what it goes on to do has no effect on anything."""
        life = self.life
        life.watch.look()
        life.watch.dead = True
        life.end()
        await life.mount.crash()
        stored: dict[str, RunRecord] = {record.id: record for record in await self.records()}
        self._check_crash(life, stored)
        self._foretell(stored)
        await trio.sleep(down_s)
        self.life = await self._open()

    def _check_crash(self, life: Life, stored: dict[str, RunRecord]) -> None:
        for run_id, shown in life.watch.shown.items():
            if run_id not in stored or stored[run_id].version < shown.version:
                self.trace.fault(f"what was shown of {run_id} is gone after the crash")
        if gone := self.acknowledged - set(stored):
            self.trace.fault(f"acknowledged starts are gone: {gone}")
        for run_id in self.stopped:
            if stored[run_id].stop is None:
                self.trace.fault(f"the acknowledged stop of {run_id} is gone")

    def _foretell(self, stored: dict[str, RunRecord]) -> None:
        """Say what becomes of everything that the store holds now."""
        for record in stored.values():
            if record.status in model.TERMINAL:
                self.settled[record.id] = record
                continue
            above: RunRecord | None = record
            while above is not None and above.stop is None:
                above = stored.get(above.parent_id or "")
            statuses, again = model.fate(record, stopped=above is not None)
            self.fates[record.id] = (self.life.number, statuses, again)

    # Onlookers

    def _follow(self) -> None:
        """Let somebody read the feed of each root, in each life anew."""
        for run in self.life.watch.runs.values():
            if run.parent is None:
                self.seen.setdefault(run.id, [])
        for root in set(self.seen) - self.life.read:
            self.life.read.add(root)
            self.life.spawn(self._read, self.life, root)

    async def _read(self, life: Life, root: str) -> None:
        seen = self.seen[root]
        while True:
            try:
                feed = await life.orchestrator.events(root, after=len(seen))
                break
            except UnknownRun:
                # Not durable yet.
                await trio.sleep(0.1)
        async for event in feed:
            if life.watch.dead:
                return
            if event.seq != len(seen) + 1:
                self.trace.fault(f"event {event.seq} of {root} was seen after {len(seen)}")
            seen.append(event)

    # The end

    async def _finish(self) -> None:
        if self.story.patient:
            await trio.sleep(200)
            await self._be_patient()
        life = self.life
        life.leave.set()
        with trio.move_on_after(LONG_S):
            await life.over.wait()
        if not life.over.is_set():
            self.trace.fault("the orchestrator cannot be left")
        with trio.move_on_after(100) as patience:
            for root in self.seen:
                while len(self.seen[root]) < await self.disk.last_seq(root):
                    await trio.sleep(1)
        if patience.cancelled_caught:
            self.trace.fault("a feed was not seen to its end")
        life.end()

    async def _be_patient(self) -> None:
        """Resume and answer until all has ended."""
        end = trio.current_time() + LONG_S
        registry = self.life.orchestrator.registry
        while registry and trio.current_time() < end:
            for run in registry:
                if run.record.status in model.HELD:
                    with suppress(OrchestratorError):
                        run.request_resume()
                if (asked := run.record.waiting_for) is not None:
                    run.answer(asked.id, asked.question)
            await trio.sleep(10)
            self._follow()
        for run in registry:
            self.trace.fault(f"{run.id} hangs: it is {run.record.status}")


def play(story: Story) -> World:
    """Play a story, and return the world as it is then.

    Raises:
        AssertionError: something was wrong.
    """
    time = VirtualTime()
    worlds: list[World] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(story, nursery, time)
            worlds.append(world)
            await world.play()

    try:
        with seeded(story.seed):
            trio.run(main, clock=time.clock)
    except BaseException as error:
        if worlds:
            error.add_note("\n".join([*worlds[0].trace.lines(), *worlds[0].trace.faults]))
        raise
    world = worlds[0]
    assert not world.trace.faults, "\n".join([*world.trace.lines(), "", *world.trace.faults])
    return world
