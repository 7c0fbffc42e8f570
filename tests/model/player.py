"""The agent that performs programs, and notes what it really does."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from orchestrator import AgentFailed, AgentStopped, Context, NotAnswered, RunEnded
from orchestrator.agent import Agent
from tests.model import program as p
from tests.model.flight import Flight, Hold, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator import Child
    from tests.model.watch import Watch

# What holds stops back from the code at hand: a critical section or a compensation.
_held: ContextVar[Hold | None] = ContextVar("held", default=None)
# What held stops back from the code that started the sub-agent at hand, to run beside it.
_starter: ContextVar[Hold | None] = ContextVar("starter", default=None)
# Whether something else than a stop may cancel the code at hand.
_exposed: ContextVar[bool] = ContextVar("exposed", default=False)


@contextmanager
def _set(var: ContextVar[Any], value: Any) -> Iterator[None]:
    token = var.set(value)
    try:
        yield
    finally:
        var.reset(token)


@dataclass
class Part:
    """One run of the player."""

    ctx: Context
    begun: list[Child] = field(default_factory=list)


class Player:
    """Performs programs. ``scripts`` holds them by their place; it survives crashes."""

    def __init__(self, scripts: dict[str, p.Program], watch: Watch) -> None:
        self.scripts = scripts
        self.watch = watch
        self.agents = [
            Agent(self.perform, name=kind, options=self._options(special))
            for kind, special in p.KINDS.items()
        ]

    def _options(self, special: dict[str, float | bool]) -> dict[str, Any]:
        return {"grace_s": p.GRACE_S, "cleanup_s": p.CLEANUP_S, **special}

    async def perform(self, ctx: Context, where: str) -> str:
        """Perform the program of that place."""
        self.watch.entered(ctx, where, _held.get() or _starter.get())
        try:
            await self._play(Part(ctx), self.scripts[where], where)
        finally:
            self.watch.note(ctx, "exit", where)
        return where

    async def _play(self, part: Part, body: p.Program, where: str) -> None:
        for n, each in enumerate(body):
            await self._do(part, each, f"{where}.{n}")

    async def _do(self, part: Part, it: p.Instruction, where: str) -> None:
        ctx = part.ctx
        match it:
            case p.Sleep(seconds, raw):
                await (trio.sleep if raw else ctx.sleep)(seconds)
            case p.Tell():
                await ctx.progress(50, where)
            case p.Op(seconds):
                await self._operate(ctx, seconds, where)
            case p.Ask(within_s):
                await self._ask(ctx, within_s, where)
            case p.Shield(seconds):
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
            case p.OnStop():
                self.watch.note(ctx, "registered", where)
                ctx.on_stop(self._undo, ctx, it, where)
            case p.Fail():
                raise ArithmeticError(where)
            case p.Call() | p.Begin() | p.Join() | p.StopChild() | p.Map():
                await self._delegate(part, it, where)
            case _:
                await self._nest(part, it, where)

    async def _operate(self, ctx: Context, seconds: float, where: str) -> None:
        async with ctx.operation("op", where):
            with self.watch.flight(Flight(run_of(ctx), where, _held.get(), _exposed.get())):
                await trio.sleep(seconds)

    async def _ask(self, ctx: Context, within_s: float | None, where: str) -> None:
        self.watch.note(ctx, "asks", where)
        try:
            answer = await ctx.ask(where, within_s=within_s)
            assert answer == where
        except NotAnswered:
            pass
        finally:
            self.watch.note(ctx, "heard", where)

    async def _undo(self, ctx: Context, it: p.OnStop, where: str) -> None:
        self.watch.note(ctx, "undo", where)
        try:
            hold = Hold(trio.current_time() + p.CLEANUP_S, undoes=True)
            with _set(_held, hold), _set(_exposed, True):
                if it.acts:
                    await self._operate(ctx, it.seconds, where)
                else:
                    await trio.sleep(it.seconds)
            if it.fails:
                raise ArithmeticError(where)
        finally:
            self.watch.note(ctx, "undone", where)

    async def _delegate(self, part: Part, it: p.Instruction, where: str) -> None:
        ctx = part.ctx
        match it:
            case p.Call(kind, body, catch):
                self.scripts[where] = body
                try:
                    await ctx.call(kind, where=where)
                except (AgentFailed, AgentStopped):
                    if not catch:
                        raise
            case p.Begin(kind, body):
                self.scripts[where] = body
                with _set(_exposed, True), _set(_starter, _held.get()), _set(_held, None):
                    part.begun.append(await ctx.start(kind, where=where))
            case p.Join() if part.begun:
                with suppress(AgentFailed, AgentStopped):
                    await part.begun[-1].wait()
            case p.StopChild(grace_s) if part.begun:
                with suppress(RunEnded):
                    await part.begun[-1].stop(grace_s=grace_s)
            case p.Map(kind, bodies, limit):
                places = [f"{where}.{n}" for n in range(len(bodies))]
                self.scripts.update(zip(places, bodies, strict=True))
                with _set(_exposed, True):
                    await ctx.map(kind, [{"where": place} for place in places], limit)

    async def _nest(self, part: Part, it: p.Instruction, where: str) -> None:
        play = partial(self._play, part)
        match it:
            case p.Critical(max_seconds, body):
                with part.ctx.critical(where, max_seconds):
                    hold = Hold.within(_held.get(), max_seconds)
                    flight = Flight(run_of(part.ctx), where, hold, _exposed.get(), critical=True)
                    with self.watch.flight(flight), _set(_held, hold):
                        await play(body, where)
            case p.Step(body):
                await self._step(part.ctx, partial(play, body, where), where)
            case p.Both(bodies):
                with _set(_exposed, True):
                    async with trio.open_nursery() as nursery:
                        for n, body in enumerate(bodies):
                            nursery.start_soon(play, body, f"{where}.{n}")
            case p.Limit(seconds, body):
                with trio.move_on_after(seconds), _set(_exposed, True):
                    await play(body, where)
            case p.Swallow(body):
                with suppress(Exception, trio.Cancelled, BaseExceptionGroup):
                    await play(body, where)
            case p.Guard(body, seconds, acts):
                try:
                    await play(body, where)
                finally:
                    with part.ctx.cleanup(), _set(_exposed, True):
                        await trio.sleep(seconds)
                        if acts:
                            await self._operate(part.ctx, 0.5, where)

    async def _step(self, ctx: Context, play: Callable[[], Any], where: str) -> None:
        async def work() -> str:
            self.watch.stepping(ctx, where, _held.get())
            await play()
            self.watch.note(ctx, "stepped", where)
            return where

        assert await ctx.step(where, work) == where
        self.watch.note(ctx, "had", where)
