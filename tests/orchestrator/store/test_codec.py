"""Values as rows and back."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import RunOptions, Usage
from orchestrator.store.codec import encode, event_row, read_event, read_run, run_row
from tests.orchestrator.store.samples import full_record, make_event, make_run

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


def with_default(value: Any) -> list[str]:
    """The fields of a record that have their default, so that no test would miss them."""
    return [
        field.name
        for field in fields(value)
        if (field.default is not MISSING and getattr(value, field.name) == field.default)
        or (
            field.default_factory is not MISSING
            and getattr(value, field.name) == field.default_factory()
        )
    ]


def test_the_full_record_leaves_nothing_out() -> None:
    record = full_record()
    assert with_default(record) == []
    # There is one kind of isolation only.
    assert with_default(record.options) == ["isolation"]
    assert [with_default(part) for part in (record.usage, record.waiting_for, record.stop)] == [
        [],
        [],
        [],
    ]


def test_a_run_of_version_1_is_read() -> None:
    """Its state said ``""`` for nobody, and knew neither usage nor reruns nor debugging."""
    record = make_run("r", tags=("t",), version=4)
    (*columns, options, state, result) = run_row(record)
    options = {name: value for name, value in json.loads(options).items() if name != "debug"}
    state = {**json.loads(state), "waiting_for": ""}
    del state["usage"], state["rerun_of"]
    old = (1, *columns, json.dumps(options), json.dumps(state), result, "null")
    assert read_run(old) == record
    assert (record.waiting_for, record.usage, record.rerun_of) == (None, Usage(), None)
    assert record.options == replace(RunOptions(), tags=("t",))
