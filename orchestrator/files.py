"""The files that runs are started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput
from orchestrator.store.writes import SaveArtifact
from orchestrator.telling import check_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model import RunId


@dataclass(frozen=True, slots=True)
class File:
    """A file that a run is started with."""

    name: str
    media_type: str
    data: bytes


def names_of(files: Sequence[File]) -> tuple[str, ...]:
    """Return the names of the files to start a run with.

    Raises:
        InvalidInput: a name or a media type will not do, as ``files.<number>.name``; or two have
            one name.
    """
    for number, file in enumerate(files):
        check_file(file.name, file.media_type, within=f"files.{number}.")
    names = tuple(file.name for file in files)
    if len(set(names)) < len(names):
        raise InvalidInput([("files", f"two of them have one name: {', '.join(sorted(names))}")])
    return names


def saved(run_id: RunId, files: Sequence[File]) -> list[SaveArtifact]:
    """Return what makes files artifacts of a run."""
    return [SaveArtifact(run_id, f.name, f.media_type, f.data, append=False) for f in files]
