"""Runs and their pages, in every store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Context, Orchestrator, agent
from orchestrator.errors import InvalidInput
from orchestrator.model import Progress, Question, RunStatus, Usage
from orchestrator.store import RunFilter, RunPage, SaveRun, SaveTags
from orchestrator.store.batch import SHORT_INPUT
from tests.orchestrator.store.samples import append, full_record, make_run, save

if TYPE_CHECKING:
    from orchestrator.store import Store


TERMINAL = [status for status in RunStatus if status.is_terminal]


async def ids(store: Store, where: RunFilter) -> list[str]:
    page = await store.page(where, after=None, limit=100)
    assert page.next is None
    return [run.id for run in page.runs]


# Saving


async def test_an_unknown_run_is_none_everywhere(store: Store) -> None:
    assert await store.get("no") is None
    assert await store.tree("no") == []
    assert await store.events("no", after=0, limit=10) == []
    assert await store.last_seq("no") == 0
    assert await store.partial("no") is None
    assert await store.artifacts("no") == []
    assert await store.artifact("no", "a") is None
    assert await store.steps("no") == []
    assert await store.unfinished() == []
    assert await store.page(RunFilter(), after=None, limit=10) == RunPage((), None)


async def test_a_run_comes_back_exactly(store: Store) -> None:
    record = full_record()
    await store.write([SaveRun(record)])
    stored = await store.get("r")
    assert stored == record
    assert stored is not None
    assert stored.stop is not None
    assert type(stored.status) is RunStatus
    assert type(stored.stop.also) is tuple
    assert type(stored.waiting_for) is Question
    assert type(stored.usage) is Usage


@pytest.mark.parametrize("length", [1, SHORT_INPUT + 1])
async def test_a_brief_page_has_all_but_inputs_and_results(store: Store, length: int) -> None:
    run = replace(full_record(), input={"text": length * "x"}, result=[1], attempt=7)
    await store.write([SaveRun(run), save("s", RunStatus.SUCCEEDED, tags=("t",))])
    for where in (
        RunFilter(),
        RunFilter(statuses=(run.status, RunStatus.SUCCEEDED)),
        RunFilter(tag="t", agent="digest"),
    ):
        whole = await store.page(where, after=None, limit=1)
        brief = await store.page(where, after=None, limit=1, brief=True)
        shorter = [replace(each, input=None, result=None) for each in whole.runs]
        assert brief == RunPage(tuple(shorter), whole.next)
    assert await store.get("r") == run


@pytest.mark.parametrize("beyond", [-1, 0, 1, 100_000])
async def test_an_input_of_any_length_is_kept(store: Store, beyond: int) -> None:
    # As JSON it has eight characters more, and more bytes than characters.
    text = "\U0001f6d1" + "x" * (SHORT_INPUT + beyond - 9)
    first = make_run("r", RunStatus.QUEUED, input={"a": text})
    await store.write([SaveRun(first)])
    await store.write([SaveRun(replace(first, status=RunStatus.RUNNING, version=2))])
    (found,) = (await store.page(RunFilter(), after=None, limit=9)).runs
    assert found.status is RunStatus.RUNNING
    assert found.input == {"a": text}
    assert await store.get("r") == found
    assert await store.tree("r") == [found]


async def test_a_run_is_brought_to_its_latest_version(store: Store) -> None:
    first = make_run("r", RunStatus.QUEUED, input={"url": "x"})
    latest = replace(
        first, status=RunStatus.RUNNING, version=3, progress=Progress(percent=5, message="…")
    )
    await store.write([SaveRun(first)])
    await store.write([SaveRun(replace(first, version=2)), SaveRun(latest)])
    assert await store.get("r") == latest
    assert await ids(store, RunFilter(statuses=(RunStatus.QUEUED,))) == []
    assert await ids(store, RunFilter(statuses=(RunStatus.RUNNING,))) == ["r"]


@pytest.mark.parametrize("ended", TERMINAL)
@pytest.mark.parametrize("later", [RunStatus.RUNNING, RunStatus.STOPPED])
@pytest.mark.parametrize("together", [True, False])
async def test_a_terminal_run_never_changes(
    store: Store, ended: RunStatus, later: RunStatus, together: bool
) -> None:
    end = make_run("r", ended, result={"kept": True}, version=2)
    writes = [SaveRun(end), save("r", later, result="overwritten", version=3)]
    await store.write([save("r")])
    for batch in [writes] if together else [[write] for write in writes]:
        await store.write(batch)
    assert await store.get("r") == end


async def test_a_refused_save_does_not_keep_the_rest_of_its_batch_out(store: Store) -> None:
    await store.write([save("r", RunStatus.FAILED)])
    await store.write([save("r"), append("r", 1), save("s")])
    assert await store.last_seq("r") == 1
    assert await ids(store, RunFilter()) == ["s", "r"]


async def test_unfinished_runs_come_oldest_first(store: Store) -> None:
    await store.write([save(f"r{status}", status) for status in RunStatus])
    unfinished = [run.status for run in await store.unfinished()]
    assert unfinished == [status for status in RunStatus if not status.is_terminal]


async def test_a_tree_comes_parents_first_whatever_is_saved_again(store: Store) -> None:
    b, a = (save(id_, root_id="root", parent_id="root") for id_ in "ba")
    await store.write([save("root"), b, save("other"), a, save("root")])
    await store.write([save("c", root_id="root", parent_id="a"), save("root", version=2)])
    assert [run.id for run in await store.tree("root")] == ["root", "b", "a", "c"]


# Pages


async def family(store: Store) -> None:
    await store.write(
        [
            save("1", RunStatus.SUCCEEDED, agent="crawl", owner="ann", tags=("x",)),
            save("2", RunStatus.STOPPED, root_id="1", parent_id="1", agent="job", tags=("x", "y")),
            save("3", RunStatus.RUNNING, agent="crawl", owner="bob"),
            save("4", RunStatus.STOPPING, root_id="3", parent_id="3", owner="ann", tags=("y", "y")),
            save("5", RunStatus.RUNNING, root_id="3", parent_id="4", agent="job", owner="ann"),
        ]
    )


S = RunStatus


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (RunFilter(), "54321"),
        (RunFilter(statuses=(S.RUNNING,)), "53"),
        (RunFilter(statuses=(S.RUNNING, S.STOPPING)), "543"),
        (RunFilter(statuses=(S.STOPPED, S.RUNNING, S.RUNNING, S.SUCCEEDED)), "5321"),
        (RunFilter(statuses=tuple(S)), "54321"),
        (RunFilter(statuses=()), ""),
        (RunFilter(agent="crawl"), "31"),
        (RunFilter(agent="nobody's"), ""),
        (RunFilter(owner="ann"), "541"),
        (RunFilter(owner=""), "2"),
        (RunFilter(tag="x"), "21"),
        (RunFilter(tag="y"), "42"),
        (RunFilter(root="3"), "543"),
        (RunFilter(parent="3"), "4"),
        (RunFilter(parent=""), "31"),
        (RunFilter(statuses=(S.RUNNING, S.STOPPING), owner="ann"), "54"),
        (RunFilter(statuses=(S.RUNNING, S.STOPPED), parent="", tag=None), "3"),
        (RunFilter(tag="y", owner="ann"), "4"),
        (RunFilter(tag="y", root="1"), "2"),
        (RunFilter(statuses=(), root="3"), ""),
        (RunFilter(root="3", agent="job", owner="ann", parent="4", statuses=(S.RUNNING,)), "5"),
        (RunFilter(parent="", owner="bob", statuses=(S.SUCCEEDED,)), ""),
    ],
    ids=str,
)
async def test_filters(store: Store, where: RunFilter, expected: str) -> None:
    await family(store)
    assert "".join(await ids(store, where)) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize(
    "where", [RunFilter(), RunFilter(statuses=tuple(S)), RunFilter(tag="t"), RunFilter(parent="")]
)
async def test_pages_neither_repeat_nor_miss_a_run(
    store: Store, where: RunFilter, limit: int
) -> None:
    statuses = [S.RUNNING, S.SUCCEEDED, S.STOPPED]
    await store.write([save(str(n), statuses[n % 3], tags=("t",)) for n in range(10)])
    seen: list[str] = []
    after, pages = None, 0
    while after is not None or not seen:
        page = await store.page(where, after=after, limit=limit)
        seen += [run.id for run in page.runs]
        after, pages = page.next, pages + 1
        # Whatever is started, or changes, while somebody leafs through does not move the pages.
        later = save("0", version=len(seen), tags=("t",))
        await store.write([save(f"new{len(seen)}", tags=("t",)), later])
    assert seen == [str(n) for n in reversed(range(10))]
    assert pages == -(-10 // limit)


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "٣", "9" * 30, " 1"])
async def test_a_foreign_cursor_is_refused(store: Store, after: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await store.page(RunFilter(), after=after, limit=10)
    assert [field for field, _ in caught.value.problems] == ["after"]


async def test_a_cursor_beyond_the_newest_run_shows_all(store: Store) -> None:
    await store.write([save("1"), save("2")])
    page = await store.page(RunFilter(), after="999999", limit=10)
    assert [run.id for run in page.runs] == ["2", "1"]


async def test_a_run_is_found_by_its_latest_tags(store: Store) -> None:
    async def found() -> str:
        return "".join([tag for tag in "abc" if await ids(store, RunFilter(tag=tag))])

    await store.write([save("1", tags=("a", "b"))])
    await store.write([save("2"), save("1", tags=("a", "b"), version=2)])
    assert await found() == "ab"

    later = make_run("1", tags=("a", "b"), retagged=("b", "c"), version=3)
    await store.write([SaveRun(later), SaveTags(later.id, ("a", "b"), ("b", "c"))])
    assert await found() == "bc"
    assert await ids(store, RunFilter(tag="c")) == ["1"]

    # Twice in one batch, and begun and changed in one batch.
    last = replace(later, retagged=(), version=5)
    new = make_run("3", tags=("a",), retagged=("c",), version=2)
    await store.write(
        [
            SaveTags(later.id, ("b", "c"), ("a",)),
            SaveRun(last),
            SaveTags(later.id, ("a",), ()),
            save("3", tags=("a",)),
            SaveRun(new),
            SaveTags(new.id, ("a",), ("c",)),
        ]
    )
    assert await found() == "c"
    assert await ids(store, RunFilter(tag="c")) == ["3"]


# What is refused before it gets here


@pytest.mark.parametrize("field", ["owner", "options.tags"])
async def test_what_runs_are_found_by_is_bounded(orchestrator: Orchestrator, field: str) -> None:
    """One that no index takes would keep the batch of everybody out of the store."""

    @agent
    async def quick(ctx: Context) -> None:
        """Do nothing."""

    for text, fits in (("é" * 127 + "e", True), ("é" * 128, False)):
        given: dict[str, Any] = {"owner": text} if field == "owner" else {"tags": [text]}
        if fits:
            await (await orchestrator.start(quick, **given)).wait()
            continue
        with pytest.raises(
            InvalidInput, match="has 256 bytes as UTF-8, but may have 255"
        ) as caught:
            await orchestrator.start(quick, **given)
        assert [name for name, _ in caught.value.problems] == [field]
