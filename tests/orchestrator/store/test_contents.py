"""What runs leave behind, in every store: events, partial results, artifacts, steps, data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints

from orchestrator.model import RunId, RunStatus
from orchestrator.store import (
    ArtifactInfo,
    Discard,
    DropData,
    DropDocument,
    RunFilter,
    RunPage,
    SaveArtifact,
    SaveDocument,
    SavePartial,
    SaveRun,
    StoredStep,
)
from tests.orchestrator.store.samples import append, entry, make_event, make_run, save, step

if TYPE_CHECKING:
    from orchestrator.store import Store, Write


R = RunId("r")


# Events


async def test_events_are_read_in_pages(store: Store) -> None:
    await store.write([append("r", 1), append("other", 1), append("r", 2)])
    await store.write([append("r", n) for n in range(3, 251)])
    assert await store.events("r", after=0, limit=2) == [make_event("r", 1), make_event("r", 2)]
    read = await store.events("r", after=2, limit=1000)
    assert read == [make_event("r", n) for n in range(3, 251)]
    assert await store.events("r", after=250, limit=10) == []
    assert (await store.last_seq("r"), await store.last_seq("other")) == (250, 1)


async def test_an_event_comes_back_exactly(store: Store) -> None:
    data = {
        "text": "line\n\x00\N{SNOWMAN}\udc80",
        "numbers": [0.1, 1e300, -0.0, 2**63, -(2**70), float("inf")],
        "empty": [{}, [], "", None, False],
    }
    await store.write([append("r", 1, data)])
    assert await store.events("r", after=0, limit=1) == [make_event("r", 1, data)]


@pytest.mark.parametrize("again", [1, 2], ids=["stored before", "earlier in the batch"])
async def test_a_batch_is_stored_whole_or_not_at_all(store: Store, again: int) -> None:
    before = make_run("r")
    await store.write([SaveRun(before), append("r", 1)])
    batch: list[Write] = [
        step("r", "a"),
        entry("r", "k"),
        save("r", RunStatus.FAILED, version=2),
        save("new", tags=("t",)),
        SavePartial(R, b"1"),
        SaveArtifact(R, "a", "text/plain", b"x", append=True),
        append("r", 2),
        append("r", again),
    ]
    with pytest.raises(ValueError, match="stored"):
        await store.write(batch)
    assert await store.get("r") == before
    assert await store.get("new") is None
    assert await store.page(RunFilter(tag="t"), after=None, limit=9) == RunPage((), None)
    assert await store.last_seq("r") == 1
    assert await store.partial("r") is None
    assert await store.artifacts("r") == []
    assert await store.steps("r") == []
    assert await store.data("ann", "s", "k") is None
    await store.write(batch[:-1])
    assert await store.last_seq("r") == 2
    assert await store.steps("r") == [StoredStep("", "a", b"1")]


# Partial results and artifacts


async def test_a_partial_result_is_replaced(store: Store) -> None:
    await store.write([SavePartial(R, b'{"done": 1}'), SavePartial(R, '{"done": "…"}'.encode())])
    assert await store.partial("r") == {"done": "…"}
    await store.write([SavePartial(R, b"null")])
    assert await store.partial("r") is None


def artifact(name: str, data: bytes, *, append: bool, media_type: str = "a/b") -> SaveArtifact:
    return SaveArtifact(R, name, media_type, data, append)


async def test_artifacts_are_appended_to_and_replaced(store: Store) -> None:
    await store.write([artifact("log", b"one ", append=True), artifact("log", b"two", append=True)])
    await store.write([artifact("log", b"", append=True), artifact("log", b" three", append=True)])
    assert await store.artifact("r", "log") == b"one two three"
    await store.write(
        [
            artifact("log", b"lost", append=True),
            artifact("log", b"new", append=False, media_type="text/plain"),
            artifact("log", b"er", append=True),
        ]
    )
    assert await store.artifact("r", "log") == b"newer"
    assert await store.artifacts("r") == [ArtifactInfo("log", "text/plain", 5)]


async def test_artifacts_are_listed_by_name_with_their_sizes_in_bytes(store: Store) -> None:
    binary = bytes(range(256)) * 5
    await store.write([artifact(name, binary, append=False) for name in ("é", "b", "B", "a")])
    await store.write([artifact("empty", b"", append=True, media_type="x/y")])
    assert await store.artifacts("r") == [
        *(ArtifactInfo(name, "a/b", 1280) for name in ("B", "a", "b")),
        ArtifactInfo("empty", "x/y", 0),
        ArtifactInfo("é", "a/b", 1280),
    ]
    assert await store.artifact("r", "é") == binary
    assert await store.artifact("r", "empty") == b""
    assert await store.artifact("s", "a") is None


async def test_a_discard_takes_what_came_before_it(store: Store) -> None:
    other = RunId("s")
    await store.write(
        [
            SavePartial(R, b"1"),
            artifact("a", b"1", append=True),
            SavePartial(other, b"1"),
            SaveArtifact(other, "a", "a/b", b"s", append=True),
        ]
    )
    await store.write(
        [
            SavePartial(R, b"2"),
            artifact("b", b"2", append=False),
            Discard(R),
            artifact("c", b"3", append=True),
        ]
    )
    assert await store.partial("r") is None
    assert await store.artifacts("r") == [ArtifactInfo("c", "a/b", 1)]
    assert await store.partial("s") == 1
    assert await store.artifact("s", "a") == b"s"
    await store.write([Discard(R), Discard(RunId("unknown"))])
    assert await store.artifacts("r") == []


# Durable steps


async def test_steps_come_back_in_the_order_of_storing(store: Store) -> None:
    await store.write([step("r", "b"), step("other", "x"), step("r", "a", b"null")])
    await store.write([step("r", "b", b'"\xc3\xa9"', path="/child:1"), step("r", "")])
    assert await store.steps("r") == [
        StoredStep("", "b", b"1"),
        StoredStep("", "a", b"null"),
        StoredStep("/child:1", "b", b'"\xc3\xa9"'),
        StoredStep("", "", b"1"),
    ]
    assert await store.steps("other") == [StoredStep("", "x", b"1")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_step_is_stored_once(store: Store, together: bool) -> None:
    """A second value would mean that the step was done twice: a bug that must show."""
    await store.write([step("r", "z")])
    first: list[Write] = [step("r", "a")]
    again: list[Write] = [append("r", 1), step("r", "a", b"2")]
    if not together:
        await store.write(first)
    with pytest.raises(ValueError, match="stored"):
        await store.write([*first, *again] if together else again)
    kept = ["z"] if together else ["z", "a"]
    assert [each.name for each in await store.steps("r")] == kept
    assert await store.last_seq("r") == 0


async def test_a_discard_of_a_root_takes_the_steps_of_its_tree(store: Store) -> None:
    await store.write([step("r", "a"), step("s", "a"), step("r", "b", path="/child:1")])
    await store.write([step("r", "c"), Discard(RunId("child")), Discard(R), step("r", "a", b"2")])
    assert await store.steps("r") == [StoredStep("", "a", b"2")]
    assert await store.steps("s") == [StoredStep("", "a", b"1")]


# Data


async def test_an_entry_is_replaced_and_dropped(store: Store) -> None:
    await store.write([entry("r", "k"), entry("r", "k", b"2"), entry("s", "l")])
    assert await store.data("ann", "s", "k") == b"2"
    await store.write([entry("s", "k", b"3"), DropData("ann", "s", "l"), DropData("ann", "s", "m")])
    assert await store.data("ann", "s", "k") == b"3"
    assert await store.data("ann", "s", "l") is None
    await store.write([DropData("ann", "s", "k"), entry("r", "k", b"4")])
    assert await store.data("ann", "s", "k") == b"4"
    await store.write([entry("r", "k", b"5"), DropData("ann", "s", "k")])
    assert await store.data("ann", "s", "k") is None


async def test_owners_and_namespaces_are_apart(store: Store) -> None:
    places = [("", "s"), ("ann", "s"), ("ann", ""), ("ann", "S")]
    await store.write([entry("r", "k", f"{n}".encode(), *at) for n, at in enumerate(places)])
    await store.write([DropData("ann", "", "k"), DropData("bob", "s", "k")])
    found = [await store.data(*at, "k") for at in places]
    assert found == [b"0", b"1", None, b"3"]


KEYS = [
    "A",
    "a",
    "a/",
    "a/1",
    "a/10",
    "a/2",
    "a/\x00",
    "a/é",
    "a/\uffff",
    "a/\U0010ffff",
    "a0",
    "é",
]


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "a/\U0010ffff", "é", "no"])
async def test_keys_are_listed_in_their_order_page_by_page(
    store: Store, prefix: str, limit: int
) -> None:
    await store.write([entry("r", key) for key in reversed(KEYS)])
    await store.write([entry("r", "a/elsewhere", space="other"), entry("r", "a/", owner="bob")])
    seen: list[str] = []
    while page := await store.data_keys(
        "ann", "s", prefix=prefix, after=seen[-1] if seen else "", limit=limit
    ):
        assert len(page) <= limit
        seen += page
    assert seen == sorted(key for key in KEYS if key.startswith(prefix))


async def test_keys_begin_after_one_that_is_not_there(store: Store) -> None:
    await store.write([entry("r", key) for key in ("a", "b1", "b3", "c")])
    for after, expected in (("", ["b1", "b3"]), ("a", ["b1", "b3"]), ("b2", ["b3"]), ("c", [])):
        found = await store.data_keys("ann", "s", prefix="b", after=after, limit=9)
        assert found == expected, after


async def test_a_discard_takes_the_data_that_the_run_wrote_last(store: Store) -> None:
    keys = ["mine", "was mine", "was theirs", "theirs", "after"]
    await store.write([entry("r", key) for key in keys[:2]])
    await store.write([entry("s", key) for key in keys[2:4]])
    await store.write(
        [
            entry("s", "was mine", b"2"),
            entry("r", "was theirs", b"2"),
            entry("r", "in the batch"),
            entry("r", "elsewhere", space="t"),
            Discard(R),
            entry("r", "after"),
        ]
    )
    found = await store.data_keys("ann", "s", prefix="", after="", limit=9)
    assert found == ["after", "theirs", "was mine"]
    assert await store.data_keys("ann", "t", prefix="", after="", limit=9) == []


# Documents


async def documents(store: Store, after: str = "", limit: int = 9, **order: bool) -> list[str]:
    return [key for key, _ in await store.documents("c", after=after, limit=limit, **order)]


async def test_documents_are_saved_replaced_and_dropped(store: Store) -> None:
    await store.write(
        [
            SaveDocument("c", "a", b"1"),
            SaveDocument("c", "b", b"2"),
            SaveDocument("d", "a", b"3"),
            DropDocument("c", "b"),
            SaveDocument("c", "a", b"4"),
        ]
    )
    assert await store.documents("c", limit=9) == [("a", b"4")]
    assert await store.document("d", "a") == b"3"
    assert await store.document("c", "b") is None
    await store.write([DropDocument("c", "a"), DropDocument("c", "never there")])
    assert await documents(store) == []


async def test_documents_are_read_in_either_order_page_by_page(store: Store) -> None:
    # By code points: an astral character comes after U+FFFD, though not in UTF-16.
    keys = ["B", "a", "\N{REPLACEMENT CHARACTER}", "\N{SNAKE}"]
    await store.write([SaveDocument("c", key, b"1") for key in reversed(keys)])
    assert await documents(store) == keys
    assert await documents(store, limit=2) == keys[:2]
    assert await documents(store, after=keys[1], limit=2) == keys[2:]
    assert await documents(store, newest=True, limit=2) == keys[:1:-1]
    assert await documents(store, newest=True, after=keys[2]) == keys[1::-1]


# Trio


async def test_every_method_is_a_checkpoint(store: Store) -> None:
    with assert_checkpoints():
        await store.write([])
    with assert_checkpoints():
        await store.get("r")
    with assert_checkpoints():
        await store.page(RunFilter(), after=None, limit=1)
    with assert_checkpoints():
        await store.unfinished()
    with assert_checkpoints():
        await store.tree("r")
    with assert_checkpoints():
        await store.events("r", after=0, limit=1)
    with assert_checkpoints():
        await store.last_seq("r")
    with assert_checkpoints():
        await store.partial("r")
    with assert_checkpoints():
        await store.artifacts("r")
    with assert_checkpoints():
        await store.artifact("r", "a")
    with assert_checkpoints():
        await store.steps("r")
    with assert_checkpoints():
        await store.data("ann", "s", "k")
    with assert_checkpoints():
        await store.data_keys("ann", "s", prefix="", after="", limit=1)
    with assert_checkpoints():
        await store.document("c", "k")
    with assert_checkpoints():
        await store.documents("c", limit=1)


async def test_a_write_in_a_cancelled_scope_does_not_begin(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.write([append("r", 1)])
    assert scope.cancelled_caught
    assert await store.last_seq("r") == 0


async def test_many_tasks_read_while_one_writes(store: Store) -> None:
    async def read_until(last: int) -> None:
        seen = 0
        while seen < last:
            for event in await store.events("r", after=seen, limit=7):
                assert event.seq == seen + 1
                seen = event.seq

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(read_until, 60)
            for n in range(0, 60, 3):
                await store.write([append("r", n + k) for k in (1, 2, 3)])
                assert await store.last_seq("r") == n + 3
