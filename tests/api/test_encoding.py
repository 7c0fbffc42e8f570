"""JSON text of answers: what any parser takes, and of long lists made in turns with the rest."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.answers import run_json
from api.encoding import encoded, plain
from orchestrator import RunStatus
from orchestrator.store.writes import SaveRun
from tests.orchestrator.store.samples import make_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx

    from orchestrator import Orchestrator

LARGE = 150_000
# Of 20 items: two tasks take turns in any order, so the other may be behind by one.
HALF = 10


@pytest.fixture
async def turns(nursery: trio.Nursery) -> AsyncIterator[Callable[[], int]]:
    """Tells how often another task has had its turn."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(count)
    yield lambda: turns
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "value",
    [None, [], {}, "é\u2028\x00", 10**40, {"a": [1, {"b": None}]}, "\ud800", {"\ud800": "\udfff"}],
    ids=repr,
)
async def test_any_json_comes_back(value: Any) -> None:
    assert json.loads(plain(value)) == value
    assert await encoded(value) == plain(value)


async def test_an_iterator_stands_for_a_list() -> None:
    def node(*names: str) -> dict[str, Any]:
        return {"first": 1, "below": map(node, names) if names else [], "last": {"x": [2]}}

    leaf = {"first": 1, "below": [], "last": {"x": [2]}}
    text = await encoded({"nodes": iter([node(), {"below": map(len, ["a", "bc"])}]), "next": None})
    assert json.loads(text) == {"nodes": [leaf, {"below": [1, 2]}], "next": None}
    assert await encoded(iter([])) == b"[]"
    assert await encoded({"none": iter([])}) == b'{"none":[]}'


def test_a_number_without_a_word_is_null() -> None:
    for beside in ("", "\ud800"):
        text = plain([math.nan, math.inf, {"x": -math.inf}, 0.5, beside])
        assert json.loads(text) == [None, None, {"x": None}, 0.5, beside]
        assert b"N" not in text


async def test_others_have_their_turn_between_large_items(turns: Callable[[], int]) -> None:
    seen: list[int] = []

    def items(size: int) -> Iterator[str]:
        for _ in range(20):
            seen.append(turns())
            yield size * "x"

    await encoded({"items": items(LARGE)})
    assert len(set(seen)) >= HALF
    seen.clear()
    # Small ones are not worth it.
    await encoded({"items": items(100)})
    assert len(set(seen)) == 1


def noting_turns(
    where: str, turns: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Return the list to which each making of a run's JSON adds how many turns others have had."""
    seen: list[int] = []

    def noted(*of_run: Any) -> dict[str, Any]:
        seen.append(turns())
        return run_json(*of_run)

    monkeypatch.setattr(where, noted)
    return seen


async def test_a_list_of_runs_with_large_results_holds_nobody_up(
    client: httpx.AsyncClient,
    served: Orchestrator,
    turns: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stop must not wait until all of them are made."""
    done, large = RunStatus.SUCCEEDED, LARGE * "x"
    runs = [make_run(f"run_{n:020}", done, result=large) for n in range(20)]
    await served.store.write([SaveRun(run) for run in runs])
    seen = noting_turns("api.runs.run_json", turns, monkeypatch)
    listed = (await client.get("/runs")).json()["runs"]
    assert [each["result"] for each in listed] == 20 * [large]
    assert len(set(seen)) >= HALF


async def test_a_tree_with_large_results_holds_nobody_up(
    client: httpx.AsyncClient,
    served: Orchestrator,
    turns: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, large, root = RunStatus.SUCCEEDED, LARGE * "x", "run_" + 20 * "0"
    below = [
        make_run(f"run_{n:020}", done, result=large, root_id=root, parent_id=root)
        for n in range(1, 20)
    ]
    await served.store.write([SaveRun(run) for run in (make_run(root, done), *below)])
    seen = noting_turns("api.answers.run_json", turns, monkeypatch)
    tree = (await client.get(f"/runs/{root}/tree")).json()
    assert [(each["id"], each["children"]) for each in tree["children"]] == [
        (run.id, []) for run in below
    ]
    assert len(set(seen)) >= HALF
