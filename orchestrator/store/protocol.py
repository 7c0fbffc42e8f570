"""What a store is asked to do. Implementations: ``memory``, ``sqlite``, ``postgresql``.

Writes come from one journal, in order, as batches; a batch is atomic: all of it is durable when
``write`` returns, or none of it is to be seen and ``write`` raises ``StoreUnavailable``. Reads may
come from many tasks at once and see every batch whose ``write`` has returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.events import Event
    from orchestrator.model import Json, RunId, RunRecord, RunStatus
    from orchestrator.store.writes import Write


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a list shows. Every field that is not None must match.

    Attributes:
        statuses: any of these.
        tag: the run carries it.
        root: the tree of that root, root included.
        parent: direct children of that run; the empty string for runs without a parent.
    """

    statuses: tuple[RunStatus, ...] | None = None
    agent: str | None = None
    owner: str | None = None
    tag: str | None = None
    root: str | None = None
    parent: str | None = None

    def fits(self, run: RunRecord) -> bool:
        """Whether a run matches."""
        return (
            (self.statuses is None or run.status in self.statuses)
            and self.agent in (None, run.agent)
            and self.owner in (None, run.owner)
            and (self.tag is None or self.tag in run.tags)
            and self.root in (None, run.root_id)
            and self.parent in (None, run.parent_id or "")
        )


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, newest first, and the cursor of the next page (None on the last one)."""

    runs: tuple[RunRecord, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """An artifact without its bytes; ``size`` in bytes."""

    name: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A finished durable step of a tree; the fields as in ``SaveStep``."""

    path: str
    name: str
    value: bytes


def _nobody() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told, in the loop, how a batch fares.

    Attributes:
        stored: called as soon as all of it is durable, maybe a turn of the loop before the
            write returns.
        committing: called when what is left to do is the disk's, and the interpreter is free for
            others until that is done; or never.
    """

    stored: Callable[[], None] = _nobody
    committing: Callable[[], None] = _nobody


NOBODY = Told()


class Store(Protocol):
    """Where runs, events, what runs leave behind, durable steps and data are durable.

    Attributes:
        pulse_s: an empty batch is to be written when nothing was for so many seconds, so that a
            process from which the store was taken learns of it soon; ``inf`` where none can be.
        last_is_gone: the process that had the store before is proved to have ended, and with it
            whatever it had at work.
    """

    pulse_s: float
    last_is_gone: bool

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        """Make the whole batch durable. Cannot be cancelled half-way.

        A ``SaveRun`` for a run that is terminal in the store changes nothing.

        Args:
            told: who is to be told how it fares.

        Raises:
            StoreUnavailable: it is not stored, or that cannot be told at present. The caller may
                try that very object again, as often as need be: it is stored once.
            ValueError: an event's (root_id, seq) or a step's (root_id, path, name) is not new,
                or a value is not JSON; nothing of the batch was stored.
            StoreInUse: another process has taken the store. It is lost for good.
        """

    async def get(self, run_id: str) -> RunRecord | None:
        """Return the run, or None."""

    async def page(
        self, where: RunFilter, *, after: str | None, limit: int, brief: bool = False
    ) -> RunPage:
        """Return up to ``limit`` matching runs, newest first, in time that does not grow with
        the number of runs before the page.

        Args:
            after: the ``next`` of the page before; None for the first page.
            brief: leave out inputs and results, which may be large; they are None.

        Raises:
            InvalidInput: ``after`` is not a cursor of ours.
        """

    async def unfinished(self) -> list[RunRecord]:
        """Return every run that is not terminal, oldest first (so parents before children)."""

    async def tree(self, root_id: str) -> list[RunRecord]:
        """Return the runs of a tree, oldest first."""

    async def expired(self, *, now_s: float, retention_s: float, limit: int) -> list[RunId]:
        """Return up to ``limit`` roots that have ended and whose time to be kept is over.

        Args:
            now_s: the time, in seconds since 1970.
            retention_s: how long those are kept whose options do not say.
        """

    async def forgotten(self, *, limit: int) -> list[RunId]:
        """Return up to ``limit`` roots of which a further ``Forget`` has something to remove."""

    async def events(self, root_id: str, *, after: int, limit: int) -> list[Event]:
        """Return up to ``limit`` events of a tree with ``seq > after``, in order."""

    async def last_seq(self, root_id: str) -> int:
        """Return the number of the tree's last event, 0 if it has none."""

    async def partial(self, run_id: str) -> Json:
        """Return the run's latest partial result, decoded; None if there is none."""

    async def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """Return the run's artifacts in the order of their names."""

    async def artifact(self, run_id: str, name: str) -> bytes | None:
        """Return an artifact's bytes, or None.

        Raises:
            StoreDamaged: it is not there as it was stored.
        """

    async def steps(self, root_id: str) -> list[StoredStep]:
        """Return the durable steps of a tree in the order in which they were stored."""

    async def data(self, owner: str, namespace: str, key: str) -> bytes | None:
        """Return an entry of the owner's data as encoded JSON, or None."""

    async def data_keys(
        self, owner: str, namespace: str, *, prefix: str, after: str, limit: int
    ) -> list[str]:
        """Return up to ``limit`` keys of the owner's data, in the order of their code points.

        Args:
            prefix: they begin with it; empty for all.
            after: they come after it; empty to begin with the first.
        """

    async def document(self, collection: str, key: str) -> bytes | None:
        """Return a document as encoded JSON, or None."""

    async def documents(
        self, collection: str, *, after: str = "", limit: int, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        """Return up to ``limit`` (key, document) pairs in the order of the keys' code points.

        Args:
            after: keys come after it in the order asked for; empty to begin with the first.
            newest: in the opposite order, as is useful where keys grow with time.
        """
