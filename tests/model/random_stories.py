"""Hypothesis' strategies for programs and stories."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.model import program as p
from tests.model import story as s

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# Few and round, so that things meet at the same moment.
SECONDS = st.sampled_from([1.0, 0.5, 3.0, 10.0, 0.0])
SOME_SECONDS = st.sampled_from([1.0, 3.0, 0.5, 10.0])
GRACES = st.sampled_from([None, 0.0, 1.0, 3.0, 20.0])
KINDS = st.sampled_from(["plain"] * 5 + list(p.KINDS))
TARGETS = st.integers(0, 15)
PAUSES = st.sampled_from([0.5, 0.0, 0.25, 1.0, 2.5, 6.0])
TURNS = st.sampled_from([0, 0, 1, 2, 3, 5, 8])


def programs(depth: int, size: int = 4) -> SearchStrategy[p.Program]:
    """Return programs with sub-agents and nested bodies up to that depth."""
    flat: list[SearchStrategy[p.Instruction]] = [
        *[st.builds(p.Op, SECONDS)] * 3,
        *[st.builds(p.Sleep, SECONDS, st.booleans())] * 2,
        st.builds(p.OnStop, SECONDS, st.booleans(), st.booleans()),
        st.sampled_from([p.Tell(), p.Join(), p.Fail()]),
        st.builds(p.Ask, st.none() | SOME_SECONDS),
        st.builds(p.Shield, SECONDS),
        st.builds(p.StopChild, st.sampled_from([0.0, 3.0])),
    ]
    if depth == 0:
        return st.lists(st.one_of(flat), max_size=size).map(tuple)
    inner = programs(depth - 1, 3)
    bodies = st.lists(inner, min_size=1, max_size=3).map(tuple)
    nested: list[SearchStrategy[p.Instruction]] = [
        *[st.builds(p.Call, KINDS, inner, st.booleans())] * 2,
        st.builds(p.Begin, KINDS, inner),
        st.builds(p.Map, KINDS, bodies, st.none() | st.integers(1, 2)),
        st.builds(p.Both, bodies),
        st.builds(p.Critical, SOME_SECONDS, inner),
        st.builds(p.Step, inner),
        st.builds(p.Limit, SECONDS, inner),
        st.builds(p.Swallow, inner),
        st.builds(p.Guard, inner, SECONDS, st.booleans()),
    ]
    return st.lists(st.one_of(flat + nested), max_size=size).map(tuple)


def options() -> SearchStrategy[tuple[tuple[str, object], ...]]:
    """Return the options of a start."""
    return st.fixed_dictionaries(
        {},
        optional={
            "deadline_s": st.sampled_from([1.0, 8.0, 40.0]),
            "idle_timeout_s": st.sampled_from([2.0, 9.0]),
            "on_crash": st.just("restart"),
            "debug": st.just(True),
        },
    ).map(lambda chosen: tuple(chosen.items()))


def deeds(depth: int) -> SearchStrategy[s.Deed]:
    """Return what the world may do."""
    start = st.builds(s.Start, KINDS, programs(depth), options(), st.booleans())
    return st.one_of(
        start,
        start,
        st.builds(s.Pause, TARGETS),
        st.builds(s.Pause, TARGETS),
        st.builds(s.Resume, TARGETS),
        st.builds(s.DebugStep, TARGETS),
        st.builds(
            s.Stop,
            TARGETS,
            st.sampled_from(["graceful", "graceful", "now", "kill"]),
            GRACES,
            st.booleans(),
        ),
        st.builds(s.Stop, TARGETS),
        st.builds(s.Answer, TARGETS),
        st.builds(s.Deadline, TARGETS, st.none() | SOME_SECONDS),
        st.builds(s.Rerun, TARGETS, st.none() | st.just("last") | st.integers(0, 3)),
        st.builds(s.Outage, st.sampled_from([0.1, 2.0])),
        st.builds(s.Crash, st.sampled_from([0.0, 3.0])),
    )


def bursts() -> SearchStrategy[tuple[s.Act, ...]]:
    """Return deeds that follow each other closely, so that they meet."""
    deed: SearchStrategy[s.Deed] = st.one_of(
        st.builds(s.Stop, TARGETS),
        st.builds(s.Crash, st.sampled_from([0.0, 3.0])),
        st.builds(s.Stop, TARGETS, st.sampled_from(["now", "kill"])),
        st.builds(s.Pause, TARGETS),
        st.builds(s.DebugStep, TARGETS),
        st.builds(s.Resume, TARGETS),
    )
    act = st.builds(s.Act, deed, st.sampled_from([0.0, 0.25]), TURNS)
    return st.lists(act, min_size=2, max_size=3).map(tuple)


def stories(depth: int = 3, length: int = 12) -> SearchStrategy[s.Story]:
    """Return stories that begin with a start."""
    start = st.builds(s.Start, KINDS, programs(depth), options(), st.booleans())
    first = st.builds(s.Act, start).map(lambda act: (act,))
    one = st.builds(s.Act, deeds(depth), PAUSES, TURNS).map(lambda act: (act,))
    rest = st.lists(st.one_of(one, one, bursts()), max_size=length)
    acts = st.tuples(first, rest).map(lambda two: tuple(chain(two[0], *two[1])))
    latency = st.sampled_from([0.0, 0.0, 0.01, 0.5])
    return st.builds(s.Story, acts, latency, st.integers(0, 2**16), st.booleans())
