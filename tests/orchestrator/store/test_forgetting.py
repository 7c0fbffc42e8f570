"""Trees are forgotten whole, in every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from orchestrator.model import RunId, RunOptions, RunStatus
from orchestrator.store import (
    ArtifactInfo,
    Forget,
    RunFilter,
    SaveArtifact,
    SavePartial,
    SaveRun,
    StoredStep,
    batch,
)
from tests.orchestrator.store.samples import AT, append, entry, make_run, save, step

if TYPE_CHECKING:
    from orchestrator.store import Store

DONE = RunStatus.SUCCEEDED
NOW_S = datetime.fromisoformat(AT).timestamp()


def piece(run_id: str) -> SaveArtifact:
    return SaveArtifact(RunId(run_id), "a", "a/b", run_id.encode(), append=False)


async def fill(store: Store, child: RunStatus = DONE) -> None:
    """Write two trees, ``r`` with its child ``c`` and ``s``, that leave everything behind."""
    await store.write(
        [
            save("r", DONE, tags=("t",), ended_at=AT),
            save("c", child, root_id="r", parent_id="r", tags=("t", "u")),
            save("s", DONE, tags=("t",), ended_at=AT),
            *(append(root, seq) for root in "rs" for seq in (1, 2)),
            *(SavePartial(RunId(run), b"1") for run in "rcs"),
            *(piece(run) for run in "rcs"),
            *(step(root, "a") for root in "rs"),
            *(entry(run, run) for run in "rcs"),
            entry("r", "theirs"),
            entry("s", "theirs", b"2"),
        ]
    )


async def test_a_tree_is_forgotten_with_all_that_it_left_behind(store: Store) -> None:
    await fill(store)
    await store.write([Forget(RunId("r"))])
    for run in ("r", "c"):
        assert await store.get(run) is None
        assert await store.partial(run) is None
        assert await store.artifacts(run) == []
        assert await store.artifact(run, "a") is None
    assert await store.tree("r") == []
    assert (await store.events("r", after=0, limit=9), await store.last_seq("r")) == ([], 0)
    assert await store.steps("r") == []
    # Of the other tree nothing is missing, nor the entry that it wrote last.
    assert await store.data_keys("ann", "s", prefix="", after="", limit=9) == ["s", "theirs"]
    page = await store.page(RunFilter(tag="t"), after=None, limit=9)
    assert [run.id for run in page.runs] == ["s"]
    assert (await store.page(RunFilter(tag="u"), after=None, limit=9)).runs == ()
    assert await store.last_seq("s") == 2
    assert await store.partial("s") == 1
    assert await store.artifacts("s") == [ArtifactInfo("a", "a/b", 1)]
    assert await store.steps("s") == [StoredStep("", "a", b"1")]
    await store.write([Forget(RunId("r")), Forget(RunId("unknown"))])
    assert await store.forgotten(limit=9) == []


@pytest.mark.parametrize("status", [status for status in RunStatus if not status.is_terminal])
async def test_a_tree_of_which_a_run_is_live_stays(store: Store, status: RunStatus) -> None:
    await fill(store, child=status)
    await store.write([Forget(RunId("r"))])
    assert [run.id for run in await store.tree("r")] == ["r", "c"]
    assert await store.last_seq("r") == 2
    assert await store.artifact("c", "a") == b"c"
    assert await store.data("ann", "s", "r") == b"1"


async def test_an_end_and_its_forgetting_may_share_a_batch(store: Store) -> None:
    await store.write([save("r"), append("r", 1)])
    await store.write([save("r", DONE), append("r", 2), piece("r"), Forget(RunId("r"))])
    assert await store.get("r") is None
    assert await store.last_seq("r") == 0
    assert await store.artifacts("r") == []


async def test_a_long_feed_is_removed_piece_by_piece_and_is_nobodys_meanwhile(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FORGOTTEN_AT_ONCE", 10)
    await store.write([save("r", DONE), *(append("r", seq) for seq in range(1, 26))])
    await store.write([Forget(RunId("r"))])
    assert await store.get("r") is None
    if store_url == "memory://":
        assert await store.last_seq("r") == 0
        return
    for left in (15, 5):
        assert await store.forgotten(limit=9) == ["r"]
        assert len(await store.events("r", after=0, limit=99)) == left
        await store.write([Forget(RunId("r"))])
    assert await store.forgotten(limit=9) == []
    assert await store.last_seq("r") == 0


async def test_pages_go_on_over_what_was_forgotten(store: Store) -> None:
    await store.write([save(str(n), DONE) for n in range(6)])
    first = await store.page(RunFilter(), after=None, limit=2)
    await store.write([Forget(RunId(each)) for each in ("5", "4", "3", "1")])
    rest = await store.page(RunFilter(), after=first.next, limit=9)
    assert [run.id for run in rest.runs] == ["2", "0"]
    await store.write([save("new")])
    page = await store.page(RunFilter(), after=None, limit=9)
    assert [run.id for run in page.runs] == ["new", "2", "0"]


async def expired(store: Store, now_s: float, retention_s: float, limit: int = 9) -> list[str]:
    return sorted(await store.expired(now_s=now_s, retention_s=retention_s, limit=limit))


async def test_what_is_over_is_told_by_the_runs_time_or_that_of_the_asker(store: Store) -> None:
    own = replace(make_run("kept", DONE, ended_at=AT), options=RunOptions(retention_s=60.5))
    await store.write(
        [
            save("plain", DONE, ended_at=AT),
            save("other", DONE, ended_at=AT),
            save("child", DONE, ended_at=AT, root_id="plain", parent_id="plain"),
            save("live"),
            SaveRun(own),
        ]
    )
    assert await expired(store, NOW_S + 59, 60) == []
    assert await expired(store, NOW_S + 61, 60) == ["kept", "other", "plain"]
    assert await expired(store, NOW_S + 61, 3600) == ["kept"]
    assert len(await expired(store, NOW_S + 61, 60, limit=2)) == 2
    await store.write([Forget(RunId("kept"))])
    assert await expired(store, NOW_S + 61, 60) == ["other", "plain"]


async def test_a_run_that_ends_begins_to_age(store: Store) -> None:
    await store.write([save("r")])
    assert await expired(store, NOW_S + 1e9, 0) == []
    await store.write([save("r", DONE, ended_at=AT, version=2)])
    assert await expired(store, NOW_S + 1, 0) == ["r"]
