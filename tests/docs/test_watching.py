"""What the pages say of metrics is what a server shows, and so is what the dashboard asks for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from api.metrics import Metrics
from api.webhooks import Outbox
from tests.docs.pages import DOCS, ROOT, rows_of
from tests.docs.test_reference import words

if TYPE_CHECKING:
    from orchestrator import Orchestrator

PAGE = DOCS / "reference" / "metrics.md"
DASHBOARD = DOCS / "reference" / "grafana-dashboard.json"

# What Prometheus adds to every sample, and what a histogram has.
ADDED = {"job", "instance", "le"}
SUFFIXES = ("_bucket", "_count", "_sum")


def shown_on_the_page() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return name -> kind and labels."""
    rows = [row for row in rows_of(PAGE) if words(row[0])]
    return {words(row[0])[0]: (row[1], tuple(words(row[2]))) for row in rows}


@pytest.fixture
async def measured(orchestrator: Orchestrator) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric of ours: name -> kind and labels."""
    metrics = Metrics()
    metrics.watch(orchestrator)
    Outbox().register(metrics.registry)
    found = {}
    for family in metrics.registry.collect():
        if family.name.startswith("quiesce_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels: Any = [sample.labels for sample in family.samples]
            counted: Any = metrics.registry._names_to_collectors.get(name)
            if hasattr(counted, "_labelnames"):
                labels = [counted._labelnames]
            found[name] = (family.type, tuple(labels[0]) if labels else ())
    return found


async def test_the_page_has_every_metric_with_its_labels(
    measured: dict[str, tuple[str, tuple[str, ...]]],
) -> None:
    runs = {"quiesce_runs": ("gauge", ("agent", "status"))}  # no agent, no sample, no labels
    assert shown_on_the_page() == measured | runs


def queries() -> list[str]:
    """Return every query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_every_metric_that_the_dashboard_names_exists() -> None:
    known = shown_on_the_page()
    process = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
    assert len(queries()) > 20
    for query in queries():
        for name in re.findall(r"\b(?:quiesce|process)_\w+", query):
            base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
            is_part = base != name and known.get(base, ("",))[0] == "histogram"
            assert name in process or is_part or known.get(name, ("histogram",))[0] != "histogram"


def test_every_label_that_the_dashboard_names_exists() -> None:
    known = shown_on_the_page()
    for query in queries():
        bases = [
            next((n.removesuffix(s) for s in SUFFIXES if n.endswith(s)), n)
            for n in re.findall(r"\b(?:quiesce|process)_\w+", query)
        ]
        allowed = ADDED.union(*(known[base][1] for base in bases if base in known))
        grouped = [g for group in re.findall(r"by \(([^)]*)\)", query) for g in group.split(", ")]
        chosen = re.findall(r"[{ ](\w+)(?:=~|!=|!~|=)\"", query)
        assert set(grouped) | set(chosen) <= allowed, query


def test_panels_do_not_overlap_and_have_titles() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_page_of_traces_has_every_attribute() -> None:
    folder = ROOT / "api" / "tracing"
    code = "".join((folder / f"{name}.py").read_text() for name in ("meaning", "spans"))
    used = set(re.findall(r'"((?:gen_ai|quiesce|http|url|server|error)\.[\w.]+)"', code))
    page = DOCS / "reference" / "traces.md"
    shown = {word for row in rows_of(page) for cell in row[:3] for word in words(cell)}
    assert used
    assert used <= shown
    attributes = {word for row in rows_of(page) for word in words(row[0]) if "." in word}
    assert attributes <= used
