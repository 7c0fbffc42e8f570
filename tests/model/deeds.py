"""What the world does to the orchestrator, each time compared with the model."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from orchestrator import OrchestratorError, RunFilter, StoreUnavailable
from tests.model import model
from tests.model import story as s
from tests.model.disk import Disk
from tests.model.trace import Trace

if TYPE_CHECKING:
    from orchestrator import Run, RunRecord
    from tests.model.life import Life
    from tests.model.program import Program


class Deeds:
    """The part of a world that acts.

    Attributes:
        durable: by root, the steps whose result somebody has had; none of them is done again.
        acknowledged: the starts that were.
        stopped: runs whose stop was acknowledged.
    """

    life: Life

    def __init__(self, latency_s: float) -> None:
        self.trace = Trace()
        self.disk = Disk(latency_s)
        self.scripts: dict[str, Program] = {}
        self.durable: dict[str, set[str]] = {}
        self.acknowledged: set[str] = set()
        self.stopped: set[str] = set()

    async def records(self) -> list[RunRecord]:
        """Return all that is stored, newest first."""
        return list((await self.disk.page(RunFilter(), after=None, limit=10**6)).runs)

    async def crash(self, down_s: float) -> None:
        """Let the process die in this step, and start it again."""
        raise NotImplementedError

    async def do(self, deed: s.Deed) -> None:
        """Do it, and note whatever came of it that should not have."""
        match deed:
            case s.Start():
                await self._start(deed)
            case s.Rerun():
                await self._rerun(deed)
            case s.Outage(seconds):
                self.disk.broken_until = trio.current_time() + seconds
            case s.Crash(down_s):
                await self.crash(down_s)
            case _:
                run = self.life.pick(deed.target)
                if run is not None:
                    self._ask_of(run, deed)

    async def _start(self, deed: s.Start) -> None:
        where = f"r{len(self.scripts)}"
        self.scripts[where] = deed.body
        orchestrator, given = self.life.orchestrator, {"where": where}
        if not deed.await_it:
            orchestrator.admit(deed.kind, given, options=dict(deed.options))
            return
        try:
            run = await orchestrator.start(deed.kind, given, options=dict(deed.options))
        except StoreUnavailable:
            if trio.current_time() > self.disk.broken_until + 1:
                self.trace.fault("a start was refused though the store takes writes")
        else:
            self.acknowledged.add(run.id)

    async def _rerun(self, deed: s.Rerun) -> None:
        life, known = self.life, [record.id for record in await self.records()]
        if not known:
            return
        run_id = known[deed.target % len(known)]
        steps = [step.name for step in await self.disk.steps(run_id)]
        from_step = deed.from_step
        if isinstance(from_step, int):
            from_step = steps[from_step] if from_step < len(steps) else "nowhere"
        old = await life.orchestrator.get(run_id)
        facts = model.Facts(old.status, None, False, old.parent_id is None, tuple(steps))
        expected = model.refusal(deed, facts)
        try:
            run = await life.orchestrator.rerun(run_id, from_step=from_step)
        except StoreUnavailable:
            return
        except OrchestratorError as error:
            self._compare(deed, expected, error)
            return
        self._compare(deed, expected, None)
        self.acknowledged.add(run.id)
        if from_step is not None:
            kept = steps if from_step == "last" else steps[: steps.index(from_step)]
            self.durable.setdefault(run.id, set()).update(kept)

    def _ask_of(self, run: Run, deed: s.Deed) -> None:
        """Do a deed in one step, and compare with the model what came of it."""
        question = run.record.waiting_for
        above = run.parent.record.status if run.parent is not None else None
        facts = model.Facts(run.record.status, above, question is not None, run.parent is None)
        before = {each: each.record.status for each in run.subtree()}
        expected, error = model.refusal(deed, facts), None
        try:
            self._perform(run, deed)
        except OrchestratorError as refused:
            error = refused
        self._compare(deed, expected, error)
        for each, was in before.items():
            follows = model.afterwards if each is run else model.below
            possible = {was} if error is not None else follows(deed, was)
            if isinstance(deed, s.Pause) and each.gate.sheltered:
                # It works for a critical section above, which a pause lets end.
                possible = possible | {was}
            if each.record.status not in possible:
                self.trace.fault(f"{deed} took {each.id} from {was} to {each.record.status}")

    def _perform(self, run: Run, deed: s.Deed) -> None:
        match deed:
            case s.Pause():
                run.request_pause()
            case s.Resume():
                run.request_resume()
            case s.DebugStep():
                run.request_step()
                self.life.watch.stepped.update(each.id for each in run.subtree())
            case s.Stop(_, mode, grace_s, discard):
                tree = [each.id for each in run.subtree()]
                ticket = run.request_stop(mode=mode, grace_s=grace_s, discard=discard)
                self.life.spawn(self._acknowledge, self.life, ticket, tree)
            case s.Answer():
                asked = run.record.waiting_for
                run.answer(asked.id if asked else "nothing", asked.question if asked else 1)
            case s.Deadline(_, seconds):
                run.move_deadline(seconds)

    def _compare(
        self, deed: s.Deed, expected: type[Exception] | None, error: OrchestratorError | None
    ) -> None:
        if (None if error is None else type(error)) is not expected:
            self.trace.fault(f"{deed} gave {error!r}, not {expected}")

    async def _acknowledge(self, life: Life, ticket: int, stopped: list[str]) -> None:
        with suppress(StoreUnavailable):
            await life.orchestrator.durable(ticket)
            if not life.watch.dead:
                self.stopped.update(stopped)
