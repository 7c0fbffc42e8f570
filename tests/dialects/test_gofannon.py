"""Gofannon: agents that were written for it, stopped by our own call, against a real server."""

from __future__ import annotations

import ast
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.dialects.written_for_gofannon import ALL, CLEANUP_S, HERE, THERE, ours

if TYPE_CHECKING:
    import httpx

    from tests.api.processes import Site

pytestmark = pytest.mark.slow

PATHS = ["a.py", "b.py", "c.py", "d.py", "e.py"]
# What the agents may be refused before they are cancelled.
PATIENCE = 10


@pytest.fixture(autouse=True)
def nothing_asked(models: Site) -> None:
    """Each test counts what it asks of the model."""
    models.asked, models.said, models.left = [], [], 0


def start(http: httpx.Client, agent: str, **given: Any) -> str:
    answer = http.post("/runs", json={"agent": agent, "input": given})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def with_files(http: httpx.Client, site: Site, repo: str) -> dict[str, Any]:
    """Return an input for which there are files already."""
    given = {"repo": repo, "site": site.url, "paths": PATHS}
    site.answers.release(len(PATHS))
    assert ended(http, start(http, "fetch_repo", **given))["status"] == "succeeded"
    return given


def stop(http: httpx.Client, run: str, **how: Any) -> httpx.Response:
    return http.post(f"/runs/{run}/stop", json=how)


def ended(http: httpx.Client, run: str) -> dict[str, Any]:
    shown: dict[str, Any] = http.get(f"/runs/{run}", params={"wait_s": 20}).json()
    assert shown["ended_at"] is not None
    return shown


def said(http: httpx.Client, run: str) -> list[str]:
    """Return what the agent has printed."""
    answer = http.get(f"/runs/{run}/events", headers={"Accept": "application/json"})
    events = [event for event in answer.json()["events"] if event["run_id"] == run]
    return [event["data"]["message"] for event in events if event["type"] == "run.log"]


@pytest.mark.parametrize("there", ALL.values(), ids=ALL)
def test_G1_an_agent_of_gofannons_changes_one_import(there: str) -> None:
    pairs = zip(there.splitlines(), ours(there).splitlines(), strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [(THERE, HERE)]
    (imported,) = ast.parse(HERE).body
    assert isinstance(imported, ast.ImportFrom)


def test_G1_and_so_runs_to_its_end(http: httpx.Client, models: Site, site: Site) -> None:
    """With asyncio, a client of its own, a data store that is not awaited, and other agents."""
    site.answers.release(len(PATHS))
    models.answers.release(len(PATHS))
    run = start(http, "review", repo="apache/one@1", site=site.url, paths=PATHS)
    shown = ended(http, run)
    assert shown["result"] == {
        "outputText": json.dumps(["5 files", ", ".join(PATHS)]),
        "spaces": ["files:apache/one@1", "sums:apache/one@1"],
    }
    assert site.asked == [f"/{path}" for path in PATHS]
    asked = [json.loads(body) for body in models.said]
    questions = sorted(each.pop("messages")[0]["content"] for each in asked)
    assert questions == [f"Sum up {path}: ok" for path in PATHS]
    assert asked == [{"model": "large", "temperature": 0.5, "stream": False}] * len(PATHS)
    fetched, summed = http.get(f"/runs/{run}/tree").json()["children"]
    assert said(http, fetched["id"]) == ["fetched 5 files", "closed True"]
    assert summed["result"]["sums"] == dict.fromkeys(PATHS, "fine")
    site.wait_for("open", 0)


def test_G1_nested_code_knows_of_the_stop_by_a_context_variable(
    http: httpx.Client, models: Site
) -> None:
    """``ask`` was handed nothing, and neither was ``should_stop``. Whoever catches what it is told
    can clean up, and cannot go on."""
    run = start(http, "careful", text="G1")
    models.wait_for("asked", 1)
    stop(http, run)
    models.answers.release()
    shown = ended(http, run)
    assert (shown["status"], shown["result"]) == ("stopped", None)
    assert said(http, run) == ["['fine', True, 'refused again', 'refused again']"]


def test_G2_calls_in_flight_finish_and_the_next_ones_are_refused(
    http: httpx.Client, models: Site, site: Site
) -> None:
    """Two of five are under way, in tasks of asyncio's; what they are answered arrives."""
    run = start(http, "sum_up", **with_files(http, site, "G2"))
    models.wait_for("asked", 2)
    assert stop(http, run).json()["run"]["status"] == "stopping"
    models.answers.release(2)
    shown = ended(http, run)
    assert (models.left, len(models.asked)) == (0, 2)
    *heard, closed = said(http, run)
    assert (sorted(heard), closed) == (["heard fine of a.py", "heard fine of b.py"], "closed True")
    receipt = shown["stop"]
    assert (shown["status"], receipt["reached"]) == ("stopped", "graceful")
    assert receipt["operations"] == {"finished": 2, "cut": 0, "refused": 0}
    assert (receipt["error"], receipt["processes_killed"]) == (None, 0)


def test_G2_what_goes_on_all_the_same_is_cancelled_and_then_killed(
    http: httpx.Client, models: Site
) -> None:
    patient = start(http, "go_on", times=1000)
    deaf = start(http, "go_on", times=1, for_ever=True)
    models.wait_for("asked", 2)
    stop(http, patient)
    stop(http, deaf)
    models.answers.release(2)
    shown = ended(http, patient)
    assert (shown["status"], shown["stop"]["processes_killed"]) == ("stopped", 0)
    refused = [f"{number}: AgentStopped" for number in range(PATIENCE)]
    assert said(http, patient) == refused
    shown = ended(http, deaf)
    assert (shown["status"], shown["stop"]["reached"]) == ("stopped", "kill")
    assert (shown["stop"]["processes_killed"], len(models.asked)) == (1, 2)
    assert "went on" in said(http, deaf)
    assert shown["stop"]["seconds"] < CLEANUP_S + 5


def test_G2_an_agent_that_was_paused_goes_on_or_is_stopped(
    http: httpx.Client, models: Site, site: Site
) -> None:
    """Meanwhile its data store, which is not awaited, blocks its loop."""
    given = with_files(http, site, "paused")
    for end in ("resume", "stop"):
        asked = len(models.asked)
        run = start(http, "sum_up", **given)
        models.wait_for("asked", asked + 2)
        assert http.post(f"/runs/{run}/pause").status_code == 202
        models.answers.release(2)
        while http.get(f"/runs/{run}").json()["status"] != "paused":
            time.sleep(0.05)  # another process: there is no event to wait for
        assert len(models.asked) == asked + 2
        assert http.post(f"/runs/{run}/{end}").status_code == 202
        if end == "resume":
            models.answers.release(3)
        shown = ended(http, run)
        assert shown["status"] == {"resume": "succeeded", "stop": "stopped"}[end]
        assert said(http, run)[-1] == "closed True"
    assert (len(models.asked), models.left) == (7, 0)
    assert shown["stop"]["reached"] == "graceful"


def test_G3_a_stop_is_answered_with_202_while_it_is_carried_out(
    http: httpx.Client, models: Site
) -> None:
    run = start(http, "careful", text="G3")
    models.wait_for("asked", 1)
    answer = stop(http, run, reason="enough")
    assert (answer.status_code, answer.json()["receipt"]["outcome"]) == (202, "stopping")
    models.answers.release()
    assert ended(http, run)["stop"]["reason"] == "enough"


def test_G6_the_whole_chain_stops_with_its_first_agent(
    http: httpx.Client, models: Site, site: Site
) -> None:
    site.answers.release(len(PATHS))
    run = start(http, "review", repo="G6", site=site.url, paths=PATHS)
    models.wait_for("asked", 2)
    stop(http, run, mode="now")
    shown = ended(http, run)
    assert (shown["status"], shown["stop"]["runs_stopped"]) == ("stopped", 2)
    fetched, summed = http.get(f"/runs/{run}/tree").json()["children"]
    assert (fetched["status"], summed["status"]) == ("succeeded", "stopped")
    assert summed["stop"]["source"] == "parent"
    models.wait_for("left", 2)
    assert len(models.asked) == 2


def test_G7_cleanup_has_run_before_the_run_ends(
    http: httpx.Client, models: Site, site: Site
) -> None:
    """Its own client too, although the stop came while that waited for an answer."""
    given = with_files(http, site, "G7")
    runs = [start(http, "sum_up", **given), start(http, "fetch_repo", **given)]
    models.wait_for("asked", 2)
    site.wait_for("asked", len(PATHS) + 1)
    for run in runs:
        stop(http, run, mode="now")
        assert ended(http, run)["stop"]["cleanup_errors"] == []
        assert said(http, run) == ["closed True"]
    models.wait_for("open", 0)
    site.wait_for("open", 0)
    assert (models.left, site.left) == (2, 1)


def test_G8_the_stop_of_one_run_leaves_every_other_untouched(
    http: httpx.Client, models: Site
) -> None:
    runs = [start(http, "careful", text=f"{n}") for n in range(3)]
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
