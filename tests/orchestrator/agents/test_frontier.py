"""What is fetched next, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents._crawl.frontier import MAX_KNOWN, Frontier, Item, Pacer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random


def frontier(max_pages: int = 100, max_depth: int = 10, concurrency: int = 8) -> Frontier:
    return Frontier(max_pages=max_pages, max_depth=max_depth, concurrency=concurrency)


def walk(front: Frontier, links: Mapping[str, Sequence[str]]) -> list[Item]:
    """Crawl a graph, one page at a time."""
    order = []
    while item := front.take():
        order.append(item)
        front.offer(links.get(item.url, ()), item.depth + 1)
        front.finish()
    return order


def test_breadth_first_each_once_and_cycles_end() -> None:
    links = {"a": ["b", "c", "a"], "b": ["d", "a", "c"], "c": ["d", "b"], "d": ["a", "d"]}
    front = frontier()
    front.offer(["a"], 0)
    assert walk(front, links) == [Item("a", 0), Item("b", 1), Item("c", 1), Item("d", 2)]
    assert (front.known, front.done, front.in_flight, front.total) == (4, 4, 0, 4)


def test_max_pages_is_exact_and_counts_what_is_in_flight() -> None:
    front = frontier(max_pages=3, concurrency=2)
    front.offer("abcdef", 0)
    assert [front.take(), front.take(), front.take()] == [Item("a", 0), Item("b", 0), None]
    front.finish()
    assert [front.take(), front.take()] == [Item("c", 0), None]
    front.finish()
    assert front.take() is None
    front.finish()
    assert front.take() is None
    assert (front.known, front.done, front.total) == (6, 3, 3)


def test_max_depth_is_exact() -> None:
    front = frontier(max_depth=1)
    front.offer(["a"], 0)
    assert [item.url for item in walk(front, {"a": ["b"], "b": ["c"]})] == ["a", "b"]
    assert front.known == 2


def test_what_was_refused_as_too_deep_may_come_by_a_shorter_way() -> None:
    front = frontier(max_depth=1)
    front.offer(["x"], 2)
    front.offer(["x"], 1)
    assert front.take() == Item("x", 1)


def test_a_claimed_address_is_not_given_out() -> None:
    front = frontier()
    assert front.claim("a")
    assert not front.claim("a")
    front.offer(["a", "b"], 0)
    assert not front.claim("b")
    assert front.take() == Item("b", 0)


def test_a_covered_address_is_not_given_out_and_no_longer_counted() -> None:
    front = frontier()
    front.offer(["a", "b"], 0)
    assert front.cover("a")
    assert not front.cover("a")
    assert front.take() == Item("b", 0)
    assert front.known == 1
    front.offer(["a"], 1)
    assert front.take() is None


def test_endless_sites_are_bounded() -> None:
    front = frontier()
    front.offer(map(str, range(MAX_KNOWN + 10)), 1)
    assert front.known == MAX_KNOWN


@given(
    st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 20))),
    st.integers(1, 30),
    st.integers(0, 5),
    st.integers(1, 4),
    st.randoms(),
)
def test_any_graph_ends_with_all_that_can_be_reached(
    graph: dict[int, list[int]],
    max_pages: int,
    max_depth: int,
    concurrency: int,
    random: Random,
) -> None:
    front = frontier(max_pages, max_depth, concurrency)
    front.offer(["0"], 0)
    flying: list[Item] = []
    given_out: list[str] = []
    while True:
        while item := front.take():
            flying.append(item)
            given_out.append(item.url)
        assert len(flying) == front.in_flight <= concurrency
        if not flying:
            break
        landed = flying.pop(random.randrange(len(flying)))
        front.offer(map(str, graph.get(int(landed.url), ())), landed.depth + 1)
        front.finish()
    assert len(given_out) == len(set(given_out)) == front.done == front.total


def test_the_pacer_keeps_starts_apart() -> None:
    pacer = Pacer(2.0)
    assert [pacer.reserve(10), pacer.reserve(10), pacer.reserve(11)] == [0, 2, 3]
    assert pacer.reserve(100) == 0
    pacer.hold(110)
    assert [pacer.reserve(101), pacer.reserve(101)] == [9, 11]
    pacer.hold(50)
    assert pacer.reserve(113) == 1


def test_without_an_interval_nothing_waits() -> None:
    pacer = Pacer(0)
    assert [pacer.reserve(5), pacer.reserve(5), pacer.reserve(6)] == [0, 0, 0]
