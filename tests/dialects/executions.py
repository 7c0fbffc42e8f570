"""Executions of playbooks, by Ignition's calls."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tests.api.processes import quiesce

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.processes import Process

BOUND_S = 30.0


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[httpx.Client, Process]]:
    """A server of a test's own, and a client of it."""
    with quiesce("serve", "--port", "0", *options, cwd=folder) as process:
        url = process.until("listening").split()[-1]
        with httpx.Client(base_url=url, timeout=30) as http:
            yield http, process


def start(http: httpx.Client, steps: list[dict[str, Any]], **more: Any) -> str:
    """Start an execution of these steps; JSON is YAML too."""
    return play(http, json.dumps({"name": "test", "steps": steps}), **more)


def play(http: httpx.Client, playbook: str, **more: Any) -> str:
    """Start an execution of this playbook."""
    answer = http.post("/api/executions", json={"playbook": playbook, **more})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] in ("pending", "running", "paused")
    return str(answer.json()["execution_id"])


def status(http: httpx.Client, execution: str) -> str:
    return str(http.get(f"/api/executions/{execution}").json()["status"])


def until(http: httpx.Client, execution: str, *wanted: str) -> str:
    """Wait until the execution shows one of these words."""
    ends = time.monotonic() + BOUND_S
    while (found := status(http, execution)) not in wanted:
        assert time.monotonic() < ends, found
        time.sleep(0.05)  # another process: there is no event to wait for
    return found


def do(http: httpx.Client, execution: str, what: str) -> httpx.Response:
    return http.post(f"/api/executions/{execution}/{what}")


def wait(name: str, seconds: float = 60) -> dict[str, Any]:
    return {"id": name, "type": "wait", "parameters": {"seconds": seconds}}


def get(name: str, url: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "http", "parameters": {"method": "GET", "url": url}, **more}
