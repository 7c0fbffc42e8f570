"""Random sequences of everything that can happen to runs, against the model of the lifecycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from tests.model.random_stories import stories
from tests.model.world import play

if TYPE_CHECKING:
    from tests.model.story import Story

# Slow data generation is that of deep trees; it does not mean anything here.
MODEL = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
@settings(MODEL, max_examples=250)
@given(stories(depth=2, length=8))
def test_the_lifecycle_holds_whatever_happens(story: Story) -> None:
    play(story)


@pytest.mark.slow
@settings(MODEL, max_examples=250)
@given(stories(depth=3, length=12))
def test_the_lifecycle_holds_whatever_happens_to_deep_trees(story: Story) -> None:
    play(story)
