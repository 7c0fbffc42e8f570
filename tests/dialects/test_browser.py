"""Ignition's live view: a real Chromium, driven by a playbook of a real server."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.processes import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="needs `apt install chromium`"
    ),
]

BOUND_S = 60.0
PAGE = b"""<title>Form</title><h1>Hello</h1><input id=name>
<button onclick="document.querySelector('h1').innerText = document.querySelector('#name').value">
Go</button>"""


@pytest.fixture
def page() -> Iterator[Site]:
    """A site of one page, which answers at once."""
    head = b"Content-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE)
    opened = Site(head + PAGE)
    opened.answers.release(20)
    try:
        yield opened
    finally:
        opened.close()


def start(http: httpx.Client, url: str, *actions: dict[str, Any]) -> str:
    step = {"id": "look", "type": "browser", "parameters": {"url": url, "actions": actions}}
    book = json.dumps({"name": "look", "steps": [step]})
    return str(http.post("/api/executions", json={"playbook": book}).json()["execution_id"])


def test_E7_a_browser_is_gone_through_and_seen_live(http: httpx.Client, page: Site) -> None:
    actions: list[dict[str, Any]] = [
        {"read": "h1"},
        {"fill": {"selector": "#name", "text": "Goodbye"}},
        {"click": "button"},
        {"read": "h1"},
        {"wait_for": "#never"},
    ]
    execution = start(http, page.url, *actions)
    ends = time.monotonic() + BOUND_S
    pictures: set[bytes] = set()
    while len(pictures) < 2:  # before and after the click
        assert time.monotonic() < ends
        shown = http.get(f"/api/executions/{execution}/view", follow_redirects=True)
        if shown.status_code == 200:
            assert shown.headers["content-type"] == "image/jpeg"
            pictures.add(shown.content)
        time.sleep(0.1)

    cancelled = http.post(f"/api/executions/{execution}/cancel").json()

    assert cancelled["status"] == "cancelled"
    page.wait_for("open", 0)
    (child,) = http.get(f"/runs/{execution}/tree").json()["children"]
    assert (child["agent"], child["status"]) == ("browser", "stopped")


def test_E7_what_the_browser_reads_is_the_output_of_the_step(
    http: httpx.Client, page: Site
) -> None:
    execution = start(http, page.url, {"read": "h1"}, {"screenshot": "page.png"})
    ends = time.monotonic() + BOUND_S
    while (shown := http.get(f"/api/executions/{execution}").json())["status"] == "running":
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert shown["error"] is None
    look = shown["result"]["steps"]["look"]
    assert (look["title"], look["texts"]) == ("Form", ["Hello"])
    (child,) = http.get(f"/runs/{execution}/tree").json()["children"]
    picture = http.get(f"/runs/{child['id']}/artifacts/page.png")
    assert picture.content.startswith(b"\x89PNG")


def test_E7_actions_that_do_not_fit_are_refused_at_the_start(http: httpx.Client) -> None:
    actions = [{"click": "a", "read": "b"}, {"fly": 1}, {"goto": "file:///etc/passwd"}]
    step = {"id": "a", "type": "browser", "parameters": {"url": "http://x", "actions": actions}}
    book = json.dumps({"name": "bad", "steps": [step]})
    answer = http.post("/api/executions", json={"playbook": book})
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert "actions.0: must have exactly one of: goto, click, fill" in detail
    assert "actions.1.fly: is not known" in detail
    assert "actions.2.goto: must be an http or https URL" in detail
