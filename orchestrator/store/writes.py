"""What can be written to a store, and so all that is ever durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.events import Event
    from orchestrator.model import RunId, RunRecord


@dataclass(frozen=True, slots=True)
class SaveRun:
    """Insert the run, or bring it to this version.

    Compare-and-set: a stored run that is terminal is never changed by it.
    """

    record: RunRecord


@dataclass(frozen=True, slots=True)
class SaveTags:
    """Let a run be found by other tags. Comes with the ``SaveRun`` that gives it those."""

    run_id: RunId
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AppendEvent:
    """Append to the feed of the event's tree. The pair (root_id, seq) is new."""

    event: Event


@dataclass(frozen=True, slots=True)
class SavePartial:
    """Replace the run's partial result. ``value`` is encoded JSON (UTF-8)."""

    run_id: RunId
    value: bytes


@dataclass(frozen=True, slots=True)
class SaveArtifact:
    """Replace an artifact (``append`` false), or add to its end; it is made if absent."""

    run_id: RunId
    name: str
    media_type: str
    data: bytes
    append: bool


@dataclass(frozen=True, slots=True)
class SaveStep:
    """Add a finished durable step to those of a tree. (root_id, path, name) is new.

    Attributes:
        path: where in the tree the run stands whose step it is; empty for the root.
        value: encoded JSON (UTF-8).
    """

    root_id: RunId
    path: str
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class SaveData:
    """Insert or replace an entry of its owner's data; ``run_id`` is now its last writer.

    ``value`` is encoded JSON (UTF-8).
    """

    run_id: RunId
    owner: str
    namespace: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class DropData:
    """Remove an entry of its owner's data, if there is one."""

    owner: str
    namespace: str
    key: str


@dataclass(frozen=True, slots=True)
class SaveDocument:
    """Insert or replace a document of the orchestrator's own; (collection, key) names it.

    ``value`` is encoded JSON (UTF-8).
    """

    collection: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class DropDocument:
    """Remove a document, if it is there."""

    collection: str
    key: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove what the run leaves behind, and what came before in the same batch too.

    That is its partial result, its artifacts, the data of which it is the last writer and, if it
    is a root, the durable steps of its tree.
    """

    run_id: RunId


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove a tree for good, with everything that its runs leave behind (see ``Discard``).

    It is gone at once for everybody. Of a long feed the rest is removed piece by piece, by further
    writes of the same, so that no transaction takes long; ``Store.forgotten`` says which.

    A tree of which a run has not ended stays as it is; one that is unknown is no error.
    """

    root_id: RunId


Write = (
    SaveRun
    | SaveTags
    | AppendEvent
    | SavePartial
    | SaveArtifact
    | SaveStep
    | SaveData
    | DropData
    | SaveDocument
    | DropDocument
    | Discard
    | Forget
)
