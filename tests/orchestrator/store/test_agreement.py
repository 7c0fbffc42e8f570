"""All stores agree, whatever is written: random batches of steps, data and discards."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model import RunId
from orchestrator.store import (
    Discard,
    DropData,
    DropDocument,
    SaveArtifact,
    SaveData,
    SaveDocument,
    SavePartial,
    SaveStep,
    Told,
    open_store,
)

if TYPE_CHECKING:
    from orchestrator.store import Store, Write
    from tests.postgres import Server

# Few of each, so that they meet.
RUNS = st.sampled_from([RunId("r"), RunId("s")])
NAMES = st.sampled_from(["a", "b"])
VALUES = st.sampled_from([b"1", b"2", b"null"])

writes = st.one_of(
    st.builds(SaveStep, RUNS, st.sampled_from(["", "/x"]), NAMES, VALUES),
    st.builds(SaveData, RUNS, NAMES, st.just("s"), NAMES, VALUES),
    st.builds(SaveDocument, NAMES, NAMES, VALUES),
    st.builds(DropDocument, NAMES, NAMES),
    st.builds(DropData, NAMES, st.just("s"), NAMES),
    st.builds(SavePartial, RUNS, VALUES),
    st.builds(SaveArtifact, RUNS, NAMES, st.just("a/b"), VALUES, st.booleans()),
    st.builds(Discard, RUNS),
)
batches = st.lists(st.lists(writes, max_size=8), max_size=5)


async def contents(store: Store) -> dict[str, Any]:
    return {
        "steps": [await store.steps(root) for root in ("r", "s")],
        "keys": [
            await store.data_keys(owner, "s", prefix="", after="", limit=9) for owner in ("a", "b")
        ],
        "data": [await store.data(owner, "s", key) for owner in ("a", "b") for key in ("a", "b")],
        "documents": [await store.documents(name, limit=9) for name in ("a", "b")],
        "partials": [await store.partial(run) for run in ("r", "s")],
        "artifacts": [
            (await store.artifacts(run), await store.artifact(run, "a")) for run in ("r", "s")
        ],
    }


async def taken(store: Store, batch: list[Write]) -> bool:
    told: list[str] = []
    try:
        await store.write(batch, Told(lambda: told.append("stored")))
    except ValueError:
        assert told == []
        return False
    assert told == ["stored"]
    return True


async def compare(url: str, given: list[list[Write]]) -> None:
    async with open_store("memory://") as memory, open_store(url) as other:
        for batch in given:
            assert await taken(memory, batch) == await taken(other, batch)
            assert await contents(memory) == await contents(other)


@pytest.mark.slow
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(batches)
def test_memory_and_sqlite_agree(given: list[list[Write]]) -> None:
    with TemporaryDirectory() as folder:
        trio.run(compare, f"sqlite:///{Path(folder) / 'runs.db'}", given)


@pytest.mark.slow
def test_memory_and_postgresql_agree(postgres_server: Server) -> None:
    @settings(deadline=None, max_examples=50)
    @given(batches)
    def agree(given: list[list[Write]]) -> None:
        trio.run(compare, postgres_server.make_database("stores"), given)

    agree()
