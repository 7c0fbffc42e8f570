"""That every benchmark works. Its figures are not judged here: machines are noisy."""

from __future__ import annotations

from math import isfinite

import pytest
import trio

from tests.bench.catalog import BENCHMARKS
from tests.bench.measure import SMOKE
from tests.bench.report import Figure, print_table, ratio_at_least, ratio_at_most


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
async def test_a_benchmark_yields_figures_beside_floors(name: str) -> None:
    with trio.fail_after(60):
        figures = await BENCHMARKS[name](SMOKE)

    assert figures
    for figure in figures:
        assert all(isfinite(each) and each > 0 for each in figure.samples + figure.floor), figure


def test_a_target_compares_medians() -> None:
    samples, floor = [3.0, 1.0, 100.0], [2.0, 2.0, 1.0]

    figure = Figure("stop", "ms", samples, "bare", floor, ratio_at_most(1.5))

    assert (figure.value, figure.ratio, figure.verdict) == (3.0, 1.5, "met")
    assert not ratio_at_most(1.4).is_met_by(figure)
    assert not ratio_at_least(1.6).is_met_by(figure)


def test_the_table_shows_figure_floor_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Figure("stop", "ms", [3.0], "bare", [1.0], ratio_at_most(1.5), ("a note",))])

    shown = capsys.readouterr().out
    assert all(word in shown for word in ("stop", "bare", "3.00", "NOT MET", "stop: a note"))
