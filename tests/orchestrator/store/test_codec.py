"""Values as rows and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.codec import encode, event_row, read_event
from tests.orchestrator.store.samples import make_event

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), json_values))
def test_any_json_object_survives(data: dict[str, object]) -> None:
    event = make_event("r", 1, data)
    assert read_event(event_row(event)) == event


@pytest.mark.parametrize("surrogate", ["\ud800", "a\udcff", "\udfff\ud800"])
def test_a_lone_surrogate_survives(surrogate: str) -> None:
    event = make_event("r", 1, {"\N{SNOWMAN}": [surrogate, 1.5], surrogate: None})
    assert read_event(event_row(event)) == event


def test_nan_survives() -> None:
    assert encode([float("nan")]) == "[NaN]"
