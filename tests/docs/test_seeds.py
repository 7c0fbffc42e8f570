"""The table of what the five systems ask says what is tested."""

from __future__ import annotations

import pytest

from tests.docs.seeds import PAGE, SYSTEMS, named_after_rows, page


@pytest.mark.slow
def test_the_page_is_what_its_command_writes() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.docs.seeds"


@pytest.mark.slow
def test_every_test_that_is_named_after_a_row_has_one() -> None:
    rows = {row for rows in SYSTEMS.values() for row in rows}
    assert set(named_after_rows()) <= rows
