"""Errors that clients cause are told in bounded lines, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from api.failures import PLACES, Failures

if TYPE_CHECKING:
    import pytest


def raised(line: int) -> Exception:
    """Return an error that arose at that line of a file that nobody has."""
    source = "\n" * (line - 1) + "raise ValueError('x\\n\\x1b[31m' + 'y' * 10_000)"
    try:
        exec(compile(source, "/there/is/none.py", "exec"))
    except ValueError as error:
        return error
    raise AssertionError


def test_each_place_is_counted_alone(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures("a thing")
    for line in [1] * 5 + [2] * 2:
        failures.note(ExceptionGroup("", [ExceptionGroup("", [raised(line)])]))
    assert [record.args and tuple(record.args)[1::2] for record in caplog.records] == [
        (1, "is/none.py:1"),
        (2, "is/none.py:1"),
        (4, "is/none.py:1"),
        (1, "is/none.py:2"),
        (2, "is/none.py:2"),
    ]


def test_a_line_is_short_and_one(caplog: pytest.LogCaptureFixture) -> None:
    Failures("a thing").note(raised(1))
    (line,) = caplog.messages
    assert len(line) < 400
    assert "\n" not in line
    assert "\x1b" not in line


def test_there_are_only_so_many_places(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures("a thing")
    for line in range(1, 3 * PLACES):
        failures.note(raised(line))
    assert len(caplog.records) == PLACES + (2 * PLACES - 1).bit_length()


def test_a_mistake_of_ours_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures("a thing", explain=True)
    for _ in range(8):
        failures.note(raised(1))
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False, False]


def test_what_a_client_did_to_its_connection_needs_no_explanation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Failures("a thing", explain=True).note(h11.RemoteProtocolError("no"))
    assert [record.exc_info for record in caplog.records] == [None]
