"""The order in which the steps of a playbook are done, and what becomes of their failures.

Each step that does something is a durable step of the run, named by the way to it, such as
``each.3.fetch``. A failure that is dealt with is durable as well, so that a run which starts again
takes the same way; one that ends the run is not, so that a rerun tries again.

A stop is no failure: it comes as ``trio.Cancelled``, which nothing here catches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from orchestrator.agents._playbook.parameters import (
    ForEach,
    If,
    Parallel,
    Parameters,
    Retry,
    read,
)
from orchestrator.agents._playbook.templates import TemplateFailed, render
from orchestrator.agents._playbook.work import work
from orchestrator.errors import AgentStopped, InvalidInput, in_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from orchestrator.agents._playbook.model import Playbook, Step
    from orchestrator.context import Context
    from orchestrator.model import Json


_AnyParameters = TypeVar("_AnyParameters", bound=Parameters)


class StepFailed(RuntimeError):
    """A step of a playbook has failed.

    Attributes:
        step: the way to it.
        error: its ``type`` and ``message``.
    """

    def __init__(self, step: str, line: int, error: dict[str, str]) -> None:
        self.step = step
        self.error = error
        super().__init__(f"step {step} (line {line}): {error['type']}: {error['message']}")


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the steps of one list see and leave behind.

    Attributes:
        way: what comes before the names of these steps.
        names: the inputs, and the item of a ``foreach``.
        before: outputs of steps outside of the list that were done before it.
        own: outputs of the steps of the list, as they come.
        handled: a failure here is dealt with further out.
    """

    way: str
    names: dict[str, Json]
    before: dict[str, Json]
    own: dict[str, Json]
    handled: bool = False

    @property
    def variables(self) -> dict[str, Json]:
        """What templates see."""
        return {**self.names, "steps": {**self.before, **self.own}}

    def inside(self, way: str, own: dict[str, Json], **names: Json) -> _Scope:
        """Return the scope of a list of steps inside a step of this one."""
        return replace(
            self,
            way=f"{self.way}{way}.",
            names=self.names | names,
            before={**self.before, **self.own},
            own=own,
        )


class Player:
    """One play of a playbook."""

    def __init__(self, ctx: Context, playbook: Playbook, inputs: dict[str, Json]) -> None:
        self._ctx = ctx
        self._playbook = playbook
        self._scope = _Scope("", {"inputs": inputs}, {}, {})

    @property
    def _result(self) -> dict[str, Json]:
        return {"name": self._playbook.name, "outputs": {}, "steps": self._scope.own}

    async def play(self) -> dict[str, Json]:
        """Do every step, and return the result.

        Raises:
            StepFailed: a step has failed, and nothing deals with that.
            TemplateFailed: the session or an output cannot be made.
        """
        self._ctx.on_stop(self._tell)
        self._open_session()
        steps = self._playbook.steps
        for number, step in enumerate(steps):
            await self._ctx.progress(100 * number / len(steps), step.name or step.id)
            await self._do(step, self._scope)
            await self._tell()
        outputs = render(self._playbook.outputs, self._scope.variables)
        await self._ctx.progress(100, self._playbook.name)
        return self._result | {"outputs": outputs}

    async def _tell(self) -> None:
        """Set the partial result; after a stop too, which may have let a step finish."""
        await self._ctx.partial(self._result)

    def _open_session(self) -> None:
        """Give the run's own client what all requests have in common. The run closes it."""
        session = render(self._playbook.session, self._scope.variables)
        if session["base_url"]:
            self._ctx.http.base_url = session["base_url"]
        if session["headers"]:
            self._ctx.http.headers.update(session["headers"])

    async def _all(self, steps: Iterable[Step], scope: _Scope) -> None:
        for step in steps:
            await self._do(step, scope)

    async def _do(self, step: Step, scope: _Scope) -> None:
        goes_on = step.on_error == "continue"
        try:
            await self._attempt(step, replace(scope, handled=scope.handled or goes_on))
        except StepFailed as failed:
            if not goes_on:
                raise
            scope.own[step.id] = {"error": failed.error}

    async def _attempt(self, step: Step, scope: _Scope) -> None:
        match step.type:
            case "if":
                await self._if(step, scope)
            case "foreach":
                await self._foreach(step, scope)
            case "parallel":
                await self._parallel(step, scope)
            case "retry":
                await self._retry(step, scope)
            case _:
                await self._work(step, scope)

    # Steps that do something

    async def _work(self, step: Step, scope: _Scope) -> None:
        """Do a step's work once, and leave its output in the scope."""

        async def once() -> dict[str, Json]:
            try:
                given = render(step.parameters, scope.variables)
                outcome = {"output": await work(self._ctx, step.type, given)}
            except Exception as error:
                failed = _failure(step, scope, error)
                if not scope.handled or self._ctx.should_stop:
                    raise failed from error
                return {"error": failed.error}
            # Within the step: a stop that let it finish is heard as the step ends.
            scope.own[step.id] = outcome["output"]
            return outcome

        outcome = await self._ctx.step(scope.way + step.id, once)
        if "error" in outcome:
            raise StepFailed(scope.way + step.id, step.line, outcome["error"])
        scope.own[step.id] = outcome["output"]

    # Steps that have others inside them; their output is the outputs of those

    async def _if(self, step: Step, scope: _Scope) -> None:
        given = self._parameters(step, scope, If)
        own: dict[str, Json] = {}
        scope.own[step.id] = own
        steps = step.inner.get("then" if given.condition else "else", ())
        await self._all(steps, scope.inside(step.id, own))

    async def _foreach(self, step: Step, scope: _Scope) -> None:
        given = self._parameters(step, scope, ForEach)
        owns: list[Json] = [{} for _ in given.items]
        scope.own[step.id] = owns
        jobs = [
            partial(
                self._all,
                step.inner["steps"],
                scope.inside(f"{step.id}.{n}", owns[n], item=item, index=n),
            )
            for n, item in enumerate(given.items)
        ]
        await _at_once(jobs, given.limit)

    async def _parallel(self, step: Step, scope: _Scope) -> None:
        given = self._parameters(step, scope, Parallel)
        owns: list[Json] = [{} for _ in step.inner]
        scope.own[step.id] = owns
        jobs = [
            partial(self._all, steps, scope.inside(f"{step.id}.{n}", owns[n]))
            for n, steps in enumerate(step.inner.values())
        ]
        await _at_once(jobs, given.limit or len(jobs))

    async def _retry(self, step: Step, scope: _Scope) -> None:
        given = self._parameters(step, scope, Retry)
        delay_s = given.delay_s
        for left in range(given.attempts - 1, -1, -1):
            own: dict[str, Json] = {}
            scope.own[step.id] = own
            inner = scope.inside(f"{step.id}.{given.attempts - left}", own)
            try:
                # A failure before the last attempt is dealt with here.
                inner = replace(inner, handled=scope.handled or left > 0)
                await self._all(step.inner["steps"], inner)
                return
            except StepFailed as failed:
                # What somebody has stopped is not started again.
                if not left or failed.error["type"] == AgentStopped.__name__:
                    raise
            await self._ctx.sleep(delay_s)
            delay_s *= given.backoff

    def _parameters(self, step: Step, scope: _Scope, kind: type[_AnyParameters]) -> _AnyParameters:
        try:
            return read(kind, render(step.parameters, scope.variables))
        except (InvalidInput, TemplateFailed) as error:
            raise _failure(step, scope, error) from None


def _failure(step: Step, scope: _Scope, error: Exception) -> StepFailed:
    said = {"type": type(error).__name__, "message": in_words(error)}
    return StepFailed(scope.way + step.id, step.line, said)


async def _at_once(jobs: Iterable[Callable[[], Awaitable[None]]], limit: int) -> None:
    """Do jobs, so many at once. The first that fails ends the others, and its error is raised."""
    waiting = iter(jobs)
    failures: list[StepFailed] = []

    async def work_off() -> None:
        for job in waiting:
            try:
                await job()
            except StepFailed as failed:
                failures.append(failed)
                nursery.cancel_scope.cancel(reason="another step has failed")

    async with trio.open_nursery() as nursery:
        for _ in range(limit):
            nursery.start_soon(work_off)
    if failures:
        raise failures[0]
