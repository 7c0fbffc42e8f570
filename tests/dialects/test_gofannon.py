"""Gofannon: agents that were written for it, stopped by our own call, against a real server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.api.processes import Site
    from tests.dialects.conftest import Server

pytestmark = pytest.mark.slow

BOUND_S = 30.0


@pytest.fixture(autouse=True)
def nothing_asked(models: Site) -> None:
    """Each test counts what it asks of the model."""
    models.asked = []
    models.left = 0


def start(http: httpx.Client, agent: str, text: str = "Why?") -> str:
    answer = http.post("/runs", json={"agent": agent, "input": {"text": text}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def stop(http: httpx.Client, run: str, **how: Any) -> httpx.Response:
    return http.post(f"/runs/{run}/stop", json=how)


def ended(http: httpx.Client, run: str) -> dict[str, Any]:
    shown: dict[str, Any] = http.get(f"/runs/{run}", params={"wait_s": 20}).json()
    assert shown["ended_at"] is not None
    return shown


def test_G1_nested_code_knows_of_the_stop_by_a_context_variable(
    http: httpx.Client, models: Site, server: Server
) -> None:
    """``ask`` was handed nothing, and neither was ``should_stop``."""
    run = start(http, "summarise", "G1")
    models.wait_for("asked", 1)
    stop(http, run)
    models.answers.release()
    assert ended(http, run)["status"] == "stopped"
    assert "['fine', True," in server.process.until("notes of G1")


def test_G2_a_call_in_flight_finishes_and_the_next_one_is_refused(
    http: httpx.Client, models: Site, server: Server
) -> None:
    """Whoever catches that can clean up, and cannot go on."""
    run = start(http, "summarise", "G2")
    models.wait_for("asked", 1)
    assert stop(http, run).json()["run"]["status"] == "stopping"
    models.answers.release()
    shown = ended(http, run)
    assert shown["stop"]["operations"] == {"finished": 1, "cut": 0, "refused": 0}
    assert (models.left, len(models.asked)) == (0, 1)
    assert server.process.until("notes of G2").strip() == (
        "notes of G2: ['fine', True, 'refused again', 'refused again', 'refused again']"
    )


def test_G3_a_stop_is_answered_with_202_while_it_is_carried_out(
    http: httpx.Client, models: Site
) -> None:
    run = start(http, "summarise")
    models.wait_for("asked", 1)
    answer = stop(http, run, reason="enough")
    assert (answer.status_code, answer.json()["receipt"]["outcome"]) == (202, "stopping")
    models.answers.release()
    assert ended(http, run)["stop"]["reason"] == "enough"


def test_G6_the_whole_chain_stops_with_its_first_agent(http: httpx.Client, models: Site) -> None:
    run = start(http, "chain")
    models.wait_for("asked", 1)
    stop(http, run, mode="now")
    shown = ended(http, run)
    assert (shown["status"], shown["stop"]["runs_stopped"]) == ("stopped", 2)
    (child,) = http.get(f"/runs/{run}/tree").json()["children"]
    assert (child["agent"], child["status"]) == ("summarise", "stopped")
    assert child["stop"]["source"] == "parent"
    models.wait_for("left", 1)
    assert len(models.asked) == 1


def test_G7_cleanup_has_run_before_the_run_ends(
    http: httpx.Client, models: Site, server: Server
) -> None:
    for mode in ("graceful", "now"):
        before = len(models.asked)
        run = start(http, "summarise", f"G7 {mode}")
        models.wait_for("asked", before + 1)
        stop(http, run, mode=mode)
        if mode == "graceful":
            models.answers.release()
        assert ended(http, run)["stop"]["cleanup_errors"] == []
        models.wait_for("open", 0)
        server.process.until(f"notes of G7 {mode}")


def test_G8_the_stop_of_one_run_leaves_every_other_untouched(
    http: httpx.Client, models: Site
) -> None:
    runs = [start(http, "summarise", f"{n}") for n in range(3)]
    models.wait_for("asked", 3)
    stop(http, runs[1], mode="now")
    assert ended(http, runs[1])["status"] == "stopped"
    models.wait_for("left", 1)
    models.answers.release(4)
    for run in (runs[0], runs[2]):
        shown = ended(http, run)
        assert (shown["status"], shown["stop"]) == ("succeeded", None)
        assert shown["result"] == {"outputText": ["fine", False, "fine", False]}
    assert len(models.asked) == 5


def test_G2_an_agent_of_gofannons_runs_to_its_end_when_nobody_stops_it(
    http: httpx.Client, models: Site
) -> None:
    models.answers.release(2)
    began = time.monotonic()
    shown = ended(http, start(http, "chain"))
    assert shown["result"] == {"outputText": ["fine", False, "fine", False]}
    assert time.monotonic() - began < BOUND_S
