"""How runs come to be: started, or repeated."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.agent import named_values
from orchestrator.errors import (
    IllegalTransition,
    InvalidInput,
    KeyConflict,
    StartsRefused,
    StoreUnavailable,
)
from orchestrator.files import File, names_of, saved
from orchestrator.model import RunId, RunRecord, RunStatus
from orchestrator.options import check_name
from orchestrator.reading import RunReader
from orchestrator.run import Run
from orchestrator.steps import before
from orchestrator.store.codec import encode
from orchestrator.store.writes import SaveDocument, SaveStep
from orchestrator.supervise import refuse_unstored
from orchestrator.trace import caller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.agent import Agent
    from orchestrator.catalog import Catalog
    from orchestrator.model import Json, RunOptions
    from orchestrator.services import Services
    from orchestrator.store.writes import Write


class Starter(RunReader):
    """The part of an orchestrator that starts runs.

    Attributes:
        agents: the registered agents.
    """

    agents: Catalog
    _services: Services
    _refusing = ""

    def live(self, run_id: str) -> Run | None:
        """Return a run that has not ended, to ask something of it; or None. Not a checkpoint."""
        return self._services.engine.find(run_id)

    async def start(
        self,
        agent: Agent | str,
        input: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        owner: str = "",
        **more_options: Any,
    ) -> Run:
        """Start a run; it is durable when this returns.

        Args:
            agent: an agent, which is registered on the way, or the name of one that is.
            options: the fields of ``RunOptions``; they may be given by keyword too.

        It may have to wait, as its options and the limits say. Then it is ``queued``.

        Raises:
            UnknownAgent, InvalidInput: nothing was started.
            StartsRefused: the orchestrator is shutting down, or halted.
            QueueFull: it would have to wait, and so many do already.
            KeyConflict: a run with its key has not ended, and ``on_conflict`` is ``reject``.
            StoreUnavailable: the run was not started, since its start cannot be made durable.
        """
        given = named_values(options or {}, "options") | more_options
        begin = partial(self.admit, agent, input, options=given, owner=owner)
        return await self.stored(await self._attempt(begin))

    async def begin(
        self,
        agent: Agent | str,
        input: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        owner: str = "",
        files: Sequence[File] = (),
    ) -> Run:
        """Start a run without waiting until that is durable; ``stored`` waits.

        The run begins in the step in which this returns. Arguments and errors as for ``start``
        and ``admit``.
        """
        given = partial(self.admit, agent, input, options=options, owner=owner, files=files)
        return await self._attempt(given)

    def admit(
        self,
        agent: Agent | str,
        input: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        owner: str = "",
        files: Sequence[File] = (),
    ) -> Run:
        """Start a run without waiting until that is durable; ``stored`` waits. Not a checkpoint.

        Args:
            files: become artifacts of the run in one transaction with its start.

        Raises:
            UnknownAgent, InvalidInput, StartsRefused, QueueFull, KeyConflict: as for ``start``.
            StoreUnavailable: the store takes nothing at present, so nothing was started.
        """
        self._check_welcome()
        agent = self.agents.get(agent)
        arguments, given = agent.parse({} if input is None else input, self.agents)
        run_id = new_run_id()
        check_name("owner", owner)
        record = RunRecord(
            id=run_id,
            root_id=run_id,
            agent=agent.name,
            status=RunStatus.QUEUED,
            created_at=self._services.now(0),
            traceparent=caller(),
            owner=owner,
            input=given,
            options=_options_of(agent, options or {}),
            files=names_of(files),
        )
        return self._begin(Run(self._services, agent, arguments, record), *saved(run_id, files))

    async def rerun(
        self, run_id: str, *, from_step: str | None = None, owner: str | None = None
    ) -> Run:
        """Start a new run with the input and options of one that has ended, without its delay.

        Args:
            from_step: reuse the durable steps stored before this one; ``last`` for all.
            owner: whose run the new one is; that of the old one if None.

        Raises:
            UnknownRun, UnknownAgent: there is no such run, or its agent is not there any more.
            IllegalTransition: the run has not ended.
            InvalidInput: the run has no such step, or its input does not fit any more.
            StartsRefused, QueueFull, KeyConflict, StoreUnavailable: as for ``start``.
        """
        return await self.stored(await self.readmit(run_id, from_step=from_step, owner=owner))

    async def readmit(
        self, run_id: str, *, from_step: str | None = None, owner: str | None = None
    ) -> Run:
        """Rerun without waiting until that is durable; ``stored`` waits.

        The run begins in the step in which this returns. Arguments and errors as for ``rerun``.
        """
        old = await self.get(run_id)
        if not old.status.is_terminal:
            raise IllegalTransition(old.status, "be rerun")
        if from_step is not None and old.parent_id is not None:
            raise InvalidInput([("from_step", f"{old.id} is a sub-agent; rerun {old.root_id}")])
        kept = [] if from_step is None else await before(self.store, old.id, from_step)
        files = await self._files_of(old)
        self._check_welcome()
        agent = self.agents.get(old.agent)
        arguments, given = agent.parse(old.input, self.agents)
        record = RunRecord(
            id=(new_id := new_run_id()),
            root_id=new_id,
            agent=agent.name,
            status=RunStatus.QUEUED,
            created_at=self._services.now(0),
            traceparent=caller(),
            owner=old.owner if owner is None else check_name("owner", owner),
            input=given,
            options=replace(old.options, tags=old.tags, start_after_s=0.0),
            rerun_of=old.id,
            files=old.files,
        )
        steps = [SaveStep(new_id, step.path, step.name, step.value) for step in kept]
        run = Run(self._services, agent, arguments, record)
        begin = partial(self._begin, run, *steps, *saved(new_id, files))
        return await self._attempt(begin)

    async def _files_of(self, run: RunRecord) -> list[File]:
        """Return the files that a run was started with, as they are now."""
        if not run.files:
            return []
        kinds = {each.name: each.media_type for each in await self.artifacts(run.id)}
        found = {name: await self.artifact(run.id, name) for name in run.files}
        gone = [name for name, data in found.items() if data is None]
        if gone:
            why = f"{run.id} was started with files that were discarded: {', '.join(gone)}"
            raise InvalidInput([("files", why)])
        return [File(name, kinds[name], data) for name, data in found.items() if data is not None]

    async def stored(self, run: Run, ticket: int | None = None) -> Run:
        """Wait until the start of a run that was admitted is durable, and return the run.

        Args:
            ticket: the run's, as it was in the step in which it was admitted; that of now if None.

        Raises:
            StoreUnavailable: it cannot be made durable; the run is stopped before it begins.
        """
        try:
            await self._services.journal.durable(run.ticket if ticket is None else ticket)
        except StoreUnavailable:
            refuse_unstored(run)
            raise
        return run

    def keep_along(self, run: Run, collection: str, key: str, value: Json) -> None:
        """Store a document in one transaction with the start of a run. Not a checkpoint.

        To be called in the step in which the run was admitted. If the start is withdrawn, since it
        was not stored, the document goes with it, whoever waits for it.
        """
        run.ledger.keep_along(SaveDocument(collection, key, encode(value).encode()))

    async def underway(self, ticket: int) -> None:
        """Wait until the disk is at work on what has that ticket, or it is durable.

        What is to be said of it can be made ready meanwhile, and said once it is durable. Returns
        too if the store does not take it at present.
        """
        await self._services.journal.underway(ticket)

    def _check_welcome(self) -> None:
        if self._refusing:
            raise StartsRefused(self._refusing)

    @property
    def refusing(self) -> str:
        """Why nothing is started any more; empty while starts are welcome."""
        return self._refusing

    def refuse_starts(self, why: str) -> None:
        """Start nothing any more; runs that are live go on. May be called twice."""
        self._refusing = why

    def _begin(self, run: Run, *more: Write) -> Run:
        self._services.engine.submit(run, *more)
        return run

    async def _attempt(self, begin: Callable[[], Run]) -> Run:
        """Begin a run. A checkpoint only if that is refused."""
        try:
            return begin()
        except KeyConflict as conflict:
            # Nobody is told of a run, also not that it is in the way, before it is durable.
            rival = self.live(conflict.run_id)
            if rival is not None:
                await self._services.journal.durable(rival.ticket)
            raise


def new_run_id() -> RunId:
    """Return an id that nobody can guess: 80 random bits."""
    return RunId("run_" + secrets.token_hex(10))


def _options_of(agent: Agent, given: Mapping[str, Any]) -> RunOptions:
    """Return the options of a start.

    An agent may well say what becomes of conflicts, and leave the key to who starts it; but who
    starts it must say on what it is to conflict.
    """
    options = agent.parse_options(given)
    if given.get("on_conflict", "allow") != "allow" and options.key is None:
        why = "needs options.key: what is it to conflict on?"
        raise InvalidInput([("options.on_conflict", why)])
    return options
