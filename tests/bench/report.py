"""What a benchmark found: figures beside their floors, as a table and as JSON."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should come to.

    Attributes:
        of: what is compared: the median itself, or its ratio to the floor's median.
        side: on which side of ``limit`` it should be; the limit itself is on both.
    """

    of: Literal["value", "ratio"]
    side: Literal["at most", "at least"]
    limit: float

    def is_met_by(self, figure: Figure) -> bool:
        """Whether the figure is on the right side of the limit."""
        measured = figure.value if self.of == "value" else figure.ratio
        return measured <= self.limit if self.side == "at most" else measured >= self.limit

    def __str__(self) -> str:
        sign = "≤" if self.side == "at most" else "≥"
        return f"{sign} {self.limit:g}" + (" x floor" if self.of == "ratio" else "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured several times, beside its floor from the same run.

    Attributes:
        beside: what the floor is.
        target: None for a figure that only gives context to others.
        notes: lines to print below the table.
    """

    name: str
    unit: str
    samples: list[float]
    beside: str
    floor: list[float]
    target: Target | None = None
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """The median."""
        return median(self.samples)

    @property
    def ratio(self) -> float:
        """The median as a multiple of the floor's median."""
        return self.value / median(self.floor)

    @property
    def verdict(self) -> str:
        """Whether the target is met, in words; empty if there is none."""
        if self.target is None:
            return ""
        return "met" if self.target.is_met_by(self) else "NOT MET"

    def as_json(self) -> dict[str, Any]:
        """Return everything about the figure."""
        return asdict(self) | {
            "value": self.value,
            "ratio": self.ratio,
            "target": None if self.target is None else str(self.target),
            "verdict": self.verdict,
        }


def at_most(limit: float) -> Target:
    """The median itself is at most that."""
    return Target("value", "at most", limit)


def ratio_at_most(limit: float) -> Target:
    """The median is at most so many times the floor's."""
    return Target("ratio", "at most", limit)


def ratio_at_least(limit: float) -> Target:
    """The median is at least so many times the floor's."""
    return Target("ratio", "at least", limit)


def machine() -> dict[str, Any]:
    """Describe where the figures come from, and how busy it is with other things."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def print_table(figures: list[Figure]) -> None:
    """Print the figures, and below them their notes."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("figure", "unit", "median (min-max)", "floor", "median (min-max)"):
        table.add_column(title, no_wrap=True)
    for title in ("ratio", "target", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for each in figures:
        table.add_row(
            each.name,
            each.unit,
            _range(each.samples),
            each.beside,
            _range(each.floor),
            f"{each.ratio:.2f}",
            str(each.target or ""),
            each.verdict,
        )
    # Wider than most terminals: a figure that is cut off is worse than one that is wrapped.
    console = Console(width=200, highlight=False)
    console.print(table)
    for each in figures:
        for note in each.notes:
            console.print(f"{each.name}: {note}", markup=False)


def _range(samples: list[float]) -> str:
    return f"{_short(median(samples))} ({_short(min(samples))}-{_short(max(samples))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
