"""Stops against everything else, at every scheduling point, in virtual time; see ``sweep``."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import pytest

from orchestrator import (
    StopMode,
)
from tests.race.sweep import FAST, Round, sweep

if TYPE_CHECKING:
    from collections.abc import Callable


# Of a sweep, every so manieth step: a few for each Python, all of them once.
SOME = [11, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("stride", SOME)
@pytest.mark.parametrize("mode", FAST)
def test_a_stop_at_every_step(mode: StopMode, stride: int) -> None:
    steps = sweep(lambda k, this: {k: partial(this.stop, mode)}, stride=stride)
    assert steps > 100


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAST)
def test_a_stop_at_every_step_in_other_orders(mode: StopMode) -> None:
    for _ in range(2):
        sweep(lambda k, this: {k: partial(this.stop, mode)}, stride=2)


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0, 1, 5])
@pytest.mark.parametrize(("one", "two"), list(itertools.permutations(FAST, 2)))
def test_two_stops_at_every_step(one: StopMode, two: StopMode, gap: int) -> None:
    def both(this: Round) -> None:
        this.stop(one)
        this.stop(two)

    def actions(k: int, this: Round) -> dict[int, Callable[[], None]]:
        if gap == 0:
            return {k: partial(both, this)}
        return {k: partial(this.stop, one), k + gap: partial(this.stop, two)}

    sweep(actions, first=gap % 3, stride=3)


@pytest.mark.slow
def test_three_stops_in_every_order() -> None:
    for order in itertools.permutations(FAST):

        def actions(
            k: int, this: Round, order: tuple[StopMode, ...] = order
        ) -> dict[int, Callable[[], None]]:
            return {k + n: partial(this.stop, mode) for n, mode in enumerate(order)}

        sweep(actions, stride=7)


def _stop_a_child(this: Round, mode: StopMode) -> None:
    if this.run.children:
        this.stop(mode, min(this.run.children, key=lambda child: child.id))


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAST)
def test_a_child_is_stopped_and_then_its_tree(mode: StopMode) -> None:
    def actions(k: int, this: Round) -> dict[int, Callable[[], None]]:
        return {k: partial(_stop_a_child, this, mode), k + 4: partial(this.stop, StopMode.NOW)}

    sweep(actions, stride=3)
