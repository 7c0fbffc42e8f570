"""Beacon: every row of what its cancel does, against a real server and a real endpoint."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.api.processes import Site

pytestmark = pytest.mark.slow

BOUND_S = 30.0
MODELS = ["small", "large"]
REGIONS = ["eu", "us", "asia"]
# It is written into JSON as it stands: a number of JSON, and none that could be kept.
BEYOND = "1e999"


def start(http: httpx.Client, site: Site, **more: Any) -> str:
    """Start a job of six executions."""
    body = {
        "name": "bias",
        "questions": ["Why?", {"q": 2}],
        "models": MODELS,
        "regions": REGIONS,
        "endpoint": f"{site.url}/ask",
        **more,
    }
    answer = http.post("/api/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"job_id", "status"}
    assert answer.json()["status"] in ("pending", "running")
    return str(answer.json()["job_id"])


def job(http: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/api/v1/jobs/{job_id}").json()
    return found


def statuses(http: httpx.Client, job_id: str) -> list[str]:
    return sorted(each["status"] for each in job(http, job_id)["executions"])


def until(http: httpx.Client, job_id: str, wanted: list[str]) -> None:
    """Wait until the executions have these statuses."""
    ends = time.monotonic() + BOUND_S
    while (found := statuses(http, job_id)) != wanted:
        assert time.monotonic() < ends, found
        time.sleep(0.05)  # another process: there is no event to wait for


def cancel(http: httpx.Client, job_id: str, **body: Any) -> httpx.Response:
    return http.post(f"/api/v1/jobs/{job_id}/cancel", json=body or None)


def live(http: httpx.Client) -> float:
    """Return how many jobs and executions are live, as the metrics say."""
    text = http.get("/metrics").text
    pattern = r'^quiesce_runs{.*agent="(?:job|execution)".*} (\S+)$'
    found = re.findall(pattern, text, re.MULTILINE)
    return sum(map(float, found))


def test_J1_cancels_at_once_end_each_job_once_and_leave_nothing_registered(
    http: httpx.Client, site: Site
) -> None:
    jobs = [start(http, site, models=["m"], regions=["r"]) for _ in range(6)]
    site.wait_for("asked", 6)
    assert live(http) == 12
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda each: cancel(http, each), jobs * 2))
    for job_id in jobs:
        assert job(http, job_id)["status"] == "cancelled"
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert all(answer.json()["ok"] for answer in answers if answer.status_code == 200)
    site.wait_for("left", 6)
    assert live(http) == 0


def test_J2_a_cancel_says_what_it_has_done(http: httpx.Client, site: Site) -> None:
    job_id = start(http, site)
    site.wait_for("asked", 6)
    answer = cancel(http, job_id)
    assert answer.status_code == 200
    said = answer.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("cancelled_at"))
    assert said == {
        "ok": True,
        "job_id": job_id,
        "previous_status": "running",
        "new_status": "cancelled",
        "context_cancelled": True,
        "executions_cancelled": 6,
    }


def test_J3_what_is_over_or_unknown_is_not_cancelled(http: httpx.Client, site: Site) -> None:
    """401 and 403 are in the table of rights."""
    cancelled = start(http, site, models=["m"], regions=["r"])
    site.wait_for("asked", 1)
    assert cancel(http, cancelled).status_code == 200
    site.answers.release()
    completed = start(http, site, models=["m"], regions=["r"])
    until(http, completed, ["completed"])
    failed = start(http, site, models=["m"], regions=["r"], endpoint="http://127.0.0.1:1/")
    until(http, failed, ["failed"])
    for job_id, status in ((cancelled, "stopped"), (completed, "succeeded"), (failed, "failed")):
        while job(http, job_id)["status"] == "running":
            time.sleep(0.05)
        refused = cancel(http, job_id)
        assert (refused.status_code, refused.json()["run_status"]) == (409, status)
    assert cancel(http, "bias-detection-123").status_code == 404
    assert http.get("/api/v1/jobs/bias-detection-123").status_code == 404


def test_J4_a_cancel_closes_the_connections_of_what_is_not_finished(
    http: httpx.Client, site: Site
) -> None:
    site.answers.release(2)
    job_id = start(http, site)
    site.wait_for("asked", 6)
    until(http, job_id, ["completed"] * 2 + ["running"] * 4)

    said = cancel(http, job_id).json()

    assert said["executions_cancelled"] == 4
    site.wait_for("left", 4)
    site.wait_for("open", 0)
    assert statuses(http, job_id) == ["cancelled"] * 4 + ["completed"] * 2
    pairs = {(each["model"], each["region"]) for each in job(http, job_id)["executions"]}
    assert pairs == {(model, region) for model in MODELS for region in REGIONS}
    assert len(site.asked) == 6
    partial = http.get(f"/runs/{job_id}").json()["partial"]
    assert [each["answer"] for each in partial["executions"]] == ["ok", "ok"]


def test_J4_each_execution_tells_the_endpoint_which_it_is(http: httpx.Client, site: Site) -> None:
    job_id = start(http, site)
    site.wait_for("asked", 6)
    listed = {each["id"]: each for each in job(http, job_id)["executions"]}
    assert site.asked == ["/ask"] * 6
    for body in map(json.loads, site.said):
        execution = listed.pop(body["execution_id"])
        assert body == {
            "job_id": job_id,
            "execution_id": execution["id"],
            "model": execution["model"],
            "region": execution["region"],
            "questions": ["Why?", {"q": 2}],
        }
    assert listed == {}
    cancel(http, job_id)


def test_J4_one_execution_is_cancelled_alone(http: httpx.Client, site: Site) -> None:
    job_id = start(http, site, regions=["eu"])
    site.wait_for("asked", 2)
    until(http, job_id, ["running", "running"])
    one = job(http, job_id)["executions"][0]["id"]
    answer = http.post(f"/api/v1/jobs/{job_id}/executions/{one}/cancel")
    assert answer.status_code == 200
    said = answer.json()
    assert (said["execution_id"], said["new_status"]) == (one, "cancelled")
    site.wait_for("left", 1)
    assert http.post(f"/api/v1/jobs/{job_id}/executions/{one}/cancel").status_code == 409
    assert http.post(f"/api/v1/jobs/{job_id}/executions/{job_id}/cancel").status_code == 404
    other = start(http, site, models=["m"], regions=["r"])
    assert http.post(f"/api/v1/jobs/{other}/executions/{one}/cancel").status_code == 404
    cancel(http, other)
    site.answers.release()
    until(http, job_id, ["cancelled", "completed"])
    while job(http, job_id)["status"] == "running":
        time.sleep(0.05)
    assert job(http, job_id)["status"] == "completed"


def test_J6_a_paid_job_is_refunded_when_it_is_stopped(http: httpx.Client, site: Site) -> None:
    """The refund is asked for once, after the connections of the executions are closed."""
    site.answers.release()
    job_id = start(http, site, refund_to=f"{site.url}/refund")
    site.wait_for("asked", 6)
    until(http, job_id, ["completed"] + ["running"] * 5)
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(cancel, http, job_id, reason="too dear")
        site.wait_for("asked", 7)
        site.wait_for("left", 5)
        site.answers.release()
        assert cancelled.result().json()["new_status"] == "cancelled"
    assert site.asked[6:] == ["/refund"]
    told = {"job_id": job_id, "name": "bias", "completed": 1, "unfinished": 5}
    assert json.loads(site.said[6]) == told
    receipt = http.get(f"/runs/{job_id}/stop").json()
    assert (receipt["reason"], receipt["cleanup_errors"]) == ("too dear", [])


def test_J6_from_a_percentage_on_a_user_cannot_stop_a_job(http: httpx.Client, site: Site) -> None:
    site.answers.release()
    job_id = start(http, site, models=["m"], regions=["eu", "us"], no_stop_after_percent=50)
    until(http, job_id, ["completed", "running"])
    while http.get(f"/runs/{job_id}").json()["progress"]["percent"] < 50:
        time.sleep(0.05)
    refused = cancel(http, job_id)
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["type"] == "urn:quiesce:too-late-to-stop"
    assert (problem["percent"], problem["no_stop_after_percent"]) == (50, 50)
    assert "at 50 %" in problem["detail"]
    assert site.left == 0
    site.answers.release()
    until(http, job_id, ["completed", "completed"])


def test_J6_many_jobs_are_cancelled_by_one_call(http: httpx.Client, site: Site) -> None:
    jobs = [start(http, site, models=["m"], name="bulk") for _ in range(3)]
    other = start(http, site, models=["m"])
    site.wait_for("asked", 12)
    asked = {"ids": jobs, "mode": "now", "reason": "all of them", "wait_s": 10}
    results = http.post("/runs/stop", json=asked).json()["results"]
    assert [(each["run_id"], each["status_code"]) for each in results] == [(j, 200) for j in jobs]
    site.wait_for("left", 9)
    assert [job(http, each)["status"] for each in jobs] == ["cancelled"] * 3
    assert all(statuses(http, each) == ["cancelled"] * 3 for each in jobs)
    assert {each["receipt"]["reason"] for each in results} == {"all of them"}
    assert statuses(http, other) == ["running"] * 3
    cancel(http, other)


def test_J7_cancels_are_counted_and_audited(http: httpx.Client, site: Site) -> None:
    def counted() -> float:
        text = http.get("/metrics").text
        found = re.findall(r'^quiesce_stops_total{.*source="user".*} (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))

    before = counted()
    job_id = start(http, site, models=["m"], regions=["r"])
    site.wait_for("asked", 1)
    cancel(http, job_id, reason="changed my mind")
    assert counted() == before + 1
    entries = http.get("/audit", params={"run": job_id}).json()["audit"]
    assert [each["action"] for each in entries] == ["stop", "start"]
    assert entries[0]["reason"] == "changed my mind"


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"models": []}, "models", "must have 1 item or more"),
        ({"models": ["a", "a"]}, "models", "may have each name only once"),
        ({"endpoint": "nowhere"}, "endpoint", "must be an http or https URL with a host"),
        ({"endpoint": None}, "endpoint", "Field required"),
        ({"no_stop_after_percent": 0}, "no_stop_after_percent", "Input should be greater"),
        ({"questions": [BEYOND]}, "body", "is not JSON: Out of range float"),
        ({"more": 1}, "more", "is not known; known are: name, questions, models, regions"),
    ],
)
def test_J4_a_job_that_does_not_fit_is_refused(
    http: httpx.Client, change: dict[str, Any], field: str, message: str
) -> None:
    body: dict[str, Any] = {"name": "n", "questions": [1], "models": ["m"], "regions": ["r"]}
    body |= {"endpoint": "http://127.0.0.1:1/", **change}
    said = json.dumps({n: v for n, v in body.items() if v is not None})
    answer = http.post("/api/v1/jobs", content=said.replace(f'"{BEYOND}"', BEYOND))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["message"].startswith(message)) == (field, True)
