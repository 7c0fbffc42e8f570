"""Durable steps: what a tree has done once is not done again, after a restart or in a rerun.

A step is known by its name and by where in the tree the run stands that does it (its path), since
sub-agents get other ids when the tree starts again. A step counts as done from the moment in
which its function has returned: result and event go to the journal in that very moment, before
any stop can come between.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import defaultdict
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agent import as_json
from orchestrator.cleanup import bounded
from orchestrator.errors import InvalidInput, StoreUnavailable, check_text
from orchestrator.events import StepFinished
from orchestrator.sections import forbid_inside_operation, settling
from orchestrator.store.codec import encode
from orchestrator.store.writes import SaveStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.model import Json, RunId
    from orchestrator.ports import RunPort
    from orchestrator.store.protocol import Store, StoredStep

NAME_CHARACTERS = 200
# Names that begin like this are for answers of people; see ``Steps.record``.
RESERVED = "ask:"
# Reruns from here reuse every step that is stored.
LAST = "last"

_LISTED = 20

# The path of a run and the name of a step.
_Key = tuple[str, str]

# The step whose function the code at hand runs in. Copied into sub-agents that are started in
# it, whose path is another one, so that it does not count for them.
_around: ContextVar[_Key | None] = ContextVar("quiesce_step", default=None)


@dataclass(frozen=True, slots=True)
class _Done:
    """A result to hand out, once the journal's ticket is durable."""

    value: bytes
    ticket: int = 0


class Steps:
    """The durable steps of one tree, shared by all of its runs."""

    __slots__ = ("_done", "_loading", "_paths", "_root_id", "_store", "_taken")

    def __init__(self, root_id: RunId, store: Store, *, fresh: bool) -> None:
        """Make the steps of a tree that starts, for the first time or again. Reads nothing yet.

        Args:
            fresh: nothing of the tree can be stored yet, so nothing will be read.
        """
        self._root_id = root_id
        self._store = store
        # None once what is stored of the tree is known.
        self._loading = None if fresh else trio.Lock()
        # Results that nobody has been given in this attempt.
        self._done: dict[_Key, _Done] = {}
        # Steps that are under way or were given in this attempt.
        self._taken: set[_Key] = set()
        self._paths: defaultdict[str, int] = defaultdict(int)

    async def do(
        self, run: RunPort, name: str, function: Callable[..., Any], *arguments: Any
    ) -> Json:
        """Return the step's stored result, or call the function and store what it returns.

        Durable when this returns, as long as that may take with a store that refuses writes. A
        stop that comes once the function has returned, or during its last operation, if that
        finishes, finds the step done. A function that raises, a stop or a limit around included,
        leaves the step undone and its name free.

        Raises:
            InvalidInput: the name does not fit or was used before by this run, or the result is
                not JSON; in the last case the function was called.
            OperationsAreLeaves: the code at hand runs in an operation.
            OperationRefused: a stop was asked for, where ``Cancelled`` cannot arrive.
            StoreUnavailable: what is stored cannot be read at present; nothing was called.
        """
        _check(name, function)
        forbid_inside_operation(f"step {name!r}")
        with self._claim((run.path, name)) as key:
            await self._load()
            # The gate comes last: from here to the call there is no place for a stop.
            await run.gate.admit("step", name)
            if key in self._done:
                run.tell(StepFinished(name, 0.0, reused=True))
            else:
                self._done[key] = await _perform(run, name, function, arguments)
            await _stored(run, self._done[key].ticket)
            return json.loads(self._done.pop(key).value)

    async def recall(self, run: RunPort, name: str) -> tuple[bool, Json]:
        """Return whether ``record`` has stored a value by that name, and the value.

        A checkpoint only when it reads the store.

        Raises:
            StoreUnavailable: what is stored cannot be read at present.
        """
        await self._load()
        done = self._done.get((run.path, name))
        return (False, None) if done is None else (True, json.loads(done.value))

    def record(self, run: RunPort, name: str, value: Json) -> SaveStep:
        """Return the write that stores a value, for the caller to append. Not a checkpoint.

        Args:
            name: begins with ``ask:``, so that no step has it.

        Raises:
            InvalidInput: it was recorded before, or is not JSON.
        """
        key = (run.path, name)
        if key in self._done:
            raise InvalidInput([(f"step {name}", "has its value already")])
        encoded = _encoded(name, value)
        self._done[key] = _Done(encoded)
        return SaveStep(self._root_id, run.path, name, encoded)

    def child_path(self, parent_path: str, agent: str, given: Json) -> str:
        """Return the path of a sub-agent that starts now. Not a checkpoint; each call counts.

        It depends on who starts it, for what, and in which step, but not on when; sub-agents of
        which all that is the same are interchangeable, and numbered.

        Args:
            given: the sub-agent's input, as JSON.
        """
        said = json.dumps(given, sort_keys=True, separators=(",", ":"))
        if step := step_around(parent_path):
            said += f"\n{step}"
        path = f"{parent_path}/{agent}:{hashlib.sha256(said.encode()).hexdigest()[:12]}"
        self._paths[path] += 1
        return path if self._paths[path] == 1 else f"{path}:{self._paths[path]}"

    @contextmanager
    def _claim(self, key: _Key) -> Iterator[_Key]:
        """Keep others from the name; for good if the body succeeds."""
        if key in self._taken:
            raise InvalidInput(
                [
                    (
                        f"step {key[1]}",
                        "is used twice in this run; give each step its own name,"
                        ' such as f"page {n}"',
                    )
                ]
            )
        self._taken.add(key)
        try:
            yield key
        except BaseException:
            self._taken.discard(key)
            raise

    async def _load(self) -> None:
        if (loading := self._loading) is None:
            return
        async with loading:
            if self._loading is not None:
                for step in await self._store.steps(self._root_id):
                    self._done[step.path, step.name] = _Done(step.value)
                self._loading = None


def step_around(path: str) -> str:
    """Return the name of the step that the code at hand runs in; empty if in none.

    Whatever is counted needs a count for each step: where a step is not done again, nothing in it
    is counted, and the counts of what comes after it must be the same.

    Args:
        path: of the run that the code works for.
    """
    around = _around.get()
    return around[1] if around is not None and around[0] == path else ""


async def before(store: Store, root_id: str, name: str) -> list[StoredStep]:
    """Return the steps of a tree that a rerun from a step reuses, in their order.

    Args:
        name: reuse all that were stored before the first step of that name at any path;
            ``last`` to reuse all.

    Raises:
        InvalidInput: no such step is stored; lists those that are.
    """
    steps = await store.steps(root_id)
    if name == LAST:
        return steps
    names = list(dict.fromkeys(step.name for step in steps))
    if name not in names:
        listed = ", ".join(map(repr, names[:_LISTED])) or "none"
        more = ", …" if len(names) > _LISTED else ""
        why = f"no step {name!r} is stored; stored steps: {listed}{more}; {LAST!r} reuses all"
        raise InvalidInput([("from_step", why)])
    return steps[: [step.name for step in steps].index(name)]


async def _perform(
    run: RunPort, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> _Done:
    """Call the function, and append its result and the event in the step in which it returns."""
    began = trio.current_time()
    token = _around.set((run.path, name))
    try:
        with settling(), run.gate.allowance.lending(held=run.gate.held):
            result = function(*arguments)
            if inspect.isawaitable(result):
                result = await result
    finally:
        _around.reset(token)
    encoded = _encoded(name, result)
    seconds = round(trio.current_time() - began, 6)
    run.tell(
        StepFinished(name, seconds, reused=False),
        SaveStep(run.record.root_id, run.path, name, encoded),
    )
    return _Done(encoded, run.ticket)


async def _stored(run: RunPort, ticket: int) -> None:
    """Wait until the step is stored; a stop or a limit around is heard only after that.

    Beyond the time for cleanup, and while the store refuses writes, the wait can be cancelled;
    the journal keeps the step, and stores it as soon as the store takes it.
    """
    with bounded(run.cleanup_left_s), suppress(StoreUnavailable):
        await run.journal.durable(ticket)
    await run.journal.stored(ticket)
    await trio.lowlevel.checkpoint_if_cancelled()


def _encoded(name: str, result: Any) -> bytes:
    what = f"step {name}"
    try:
        return encode(as_json(result, what)).encode()
    except InvalidInput as error:
        remedy = "return what has a JSON form: plain values, dataclasses, models, dates"
        raise InvalidInput([(what, f"its result {error.problems[0][1]}; {remedy}")]) from None


def _check(name: str, function: Callable[..., Any]) -> None:
    if not 1 <= len(check_text("name", name)) <= NAME_CHARACTERS:
        why = f"has {len(name)} characters, but the name of a step has 1 to {NAME_CHARACTERS}"
        raise InvalidInput([("name", why)])
    if name.startswith(RESERVED):
        why = f"{name!r} begins with {RESERVED!r}, which is kept for answers of people"
        raise InvalidInput([("name", why)])
    if inspect.iscoroutine(function):
        function.close()
        raise TypeError("pass the function to ctx.step, not the coroutine of a call of it")
    if not callable(function):
        raise TypeError(f"ctx.step needs a function and its arguments, not {function!r}")
