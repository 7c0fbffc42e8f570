"""Playbooks with steps of every kind, over Ignition's calls, against a real server."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.processes import Site
from tests.dialects.executions import BOUND_S, do, get, play, serving, start, until

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.slow

EVERY_KIND = """\
name: Every kind
inputs:
  site: {type: string}
  names: {type: array, items: {type: string}, default: [a, b, c]}
  times: {type: string}
session:
  base_url: "{{ inputs.site }}"
  headers: {X-From: playbook}
steps:
  - id: fetch
    type: http
    parameters: {url: "/{{ inputs.names | first }}", query: {n: "1"}}
  - id: shout
    type: command
    parameters: {argv: [tr, a-z, A-Z], stdin: "{{ steps.fetch.text }}!"}
  - id: visit
    type: agent
    parameters: {agent: visit, input: {url: "{{ inputs.site }}/visit"}}
  - id: think
    type: llm
    parameters: {prompt: "What is {{ steps.shout.stdout_tail }}?", temperature: 0.5}
  - id: rest
    type: wait
    parameters: {seconds: 0}
  - id: choose
    type: if
    parameters:
      condition: "{{ steps.think.text == 'fine' }}"
      then:
        - id: yes
          type: http
          parameters: {method: POST, url: /yes, json: {thought: "{{ steps.think.text }}"}}
      else:
        - {id: no, type: http, parameters: {url: /no}}
  - id: both
    type: parallel
    parameters:
      branches:
        - [{id: left, type: http, parameters: {url: /left}}]
        - [{id: right, type: command, parameters: {argv: [printf, "%s", "{{ steps.visit.text }}"]}}]
  - id: each
    type: foreach
    parameters:
      items: "{{ inputs.names }}"
      limit: 2
      steps:
        - {id: page, type: http, parameters: {url: "/each/{{ index }}/{{ item }}"}}
  - id: again
    type: retry
    parameters:
      attempts: 3
      delay_s: 0.01
      steps:
        - id: try
          type: agent
          parameters: {agent: fails_twice, input: {key: "{{ inputs.times }}"}}
  - id: lost
    type: http
    parameters: {url: /lost, expect: [418]}
    on_error: continue
outputs:
  chosen: "{{ steps.choose.yes.status }}"
  right: "{{ steps.both[1].right.stdout_tail }}"
  pages: "{{ steps.each | map(attribute='page') | map(attribute='text') | join(',') }}"
  tries: "{{ steps.again.try }}"
  lost: "{{ steps.lost.error.type }}"
"""


def ended(http: httpx.Client, execution: str) -> dict[str, Any]:
    until(http, execution, "completed", "failed", "cancelled")
    shown: dict[str, Any] = http.get(f"/api/executions/{execution}").json()
    return shown


def test_E6_steps_of_every_kind_are_done_and_used_by_others(
    http: httpx.Client, models: Site, site: Site
) -> None:
    models.said = []
    models.answers.release()
    site.answers.release(8)
    shown = ended(http, play(http, EVERY_KIND, inputs={"site": site.url, "times": "every kind"}))
    assert (shown["status"], shown["error"]) == ("completed", None)
    assert shown["result"]["outputs"] == {
        "chosen": 200,
        "right": "ok",
        "pages": "ok,ok,ok",
        "tries": 3,
        "lost": "Unexpected",
    }
    assert site.asked[:3] == ["/a?n=1", "/visit", "/yes"]
    pages = [f"/each/{n}/{name}" for n, name in enumerate("abc")]
    assert sorted(site.asked[3:]) == sorted([*pages, "/left", "/lost"])
    assert json.loads(site.said[2]) == {"thought": "fine"}
    (asked,) = map(json.loads, models.said)
    assert asked["messages"] == [{"role": "user", "content": "What is OK!?"}]
    assert asked["temperature"] == 0.5
    site.wait_for("open", 0)


def holding(kind: str, url: str) -> dict[str, Any]:
    """Return a step of that kind, which waits for ``url``, and asks nobody else."""
    match kind:
        case "parallel":
            inner: Any = {"branches": [[get("a", url), get("b", url)], [get("c", url)]]}
        case "foreach":
            inner = {"items": ["a", "b", "c"], "limit": 2, "steps": [get("one", url)]}
        case "retry":
            inner = {"attempts": 5, "steps": [get("one", url)]}
        case "if":
            inner = {"condition": "{{ 1 == 1 }}", "then": [get("one", url)]}
        case "agent":
            inner = {"agent": "visit", "input": {"url": url}}
        case "llm":
            inner = {"prompt": "Why?"}
        case _:
            inner = {"argv": ["sh", "-c", f"sleep {SLEPT_S} & wait"]}
    return {"id": "long", "type": kind, "parameters": inner, "on_error": "continue"}


# How long the command sleeps, which no other process has on its command line.
SLEPT_S = 7043.25
# What each kind holds open at the other end when it is stopped.
HELD = {"parallel": 2, "foreach": 2, "retry": 1, "if": 1, "agent": 1, "llm": 1, "command": 0}


def sleepers() -> int:
    """Return how many processes of the command there are."""
    found = 0
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += str(SLEPT_S).encode() in each.read_bytes()
        except OSError:
            continue  # it has just ended
    return found


@pytest.mark.parametrize("kind", HELD)
def test_E1_a_cancel_ends_a_step_of_any_kind_at_the_other_end_too(
    kind: str, http: httpx.Client, models: Site, site: Site
) -> None:
    """Nothing after it is done, although each goes on after an error."""
    other = models if kind == "llm" else site
    other.asked, other.left = [], 0
    execution = start(http, [holding(kind, f"{site.url}/long"), get("after", f"{site.url}/after")])
    other.wait_for("asked", HELD[kind])
    ends = time.monotonic() + BOUND_S
    while kind == "command" and sleepers() < 2:  # the shell, and what it has started
        assert time.monotonic() < ends
        time.sleep(0.05)

    cancelled = do(http, execution, "cancel").json()

    assert cancelled["status"] == "cancelled"
    other.wait_for("left", HELD[kind])
    other.wait_for("open", 0)
    assert sleepers() == 0
    assert (len(other.asked), "/after" in site.asked) == (HELD[kind], False)
    assert http.get(f"/runs/{execution}/stop").json()["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (
            "- id: a\n  type: foreach\n  parameters:\n    items: [1]\n    steps:\n"
            "      - {id: b, type: wait, parameters: {seconds: soon}}",
            "line 8: steps.0.parameters.steps.0.parameters.seconds: Input should be a valid number",
        ),
        (
            "- {id: a, type: wait, parameters: {seconds: 1}}\n"
            "- {id: a, type: wait, parameters: {seconds: 1}}",
            "line 4: steps.1.id: ",
        ),
        ("- id: a\n  type: agent\n  parameters: {agent: nobody}", "line 5: "),
        ("- id: a\n  type: http\n  parameters: {url: '{{ steps.b.url }}'}", "line 5: "),
        ("- id: a\n  type: wait\n  parameters: {seconds: '{{ 1 +'}", "line 5: "),
        ("- id: a\n\ttype: wait", "line 4: "),
    ],
)
def test_E6_the_line_of_a_fault_is_named_however_deep_it_is(
    http: httpx.Client, steps: str, error: str
) -> None:
    answer = http.post("/api/executions", json={"playbook": f"name: a\nsteps:\n{steps}"})
    assert answer.status_code == 422, answer.text
    (found,) = answer.json()["errors"]
    assert found["field"] == "playbook"
    assert found["message"].startswith(error)


def test_E6_steps_that_are_done_are_not_done_again_after_the_server_was_killed(
    site: Site, tmp_path: Path
) -> None:
    """One starts again by itself. The execution is lost; a rerun of it goes on where it was."""
    with closing(Site()) as other:
        sites = [site, other]
        books = [[get("a", f"{each.url}/a"), get("b", f"{each.url}/b")] for each in sites]
        with serving(tmp_path, "--dialect", "ignition") as (http, process):
            execution = start(http, books[0])
            given = {"playbook": json.dumps({"name": "other", "steps": books[1]})}
            order = {"agent": "playbook", "input": given, "options": {"on_crash": "restart"}}
            run = http.post("/runs", json=order).json()["id"]
            for each in sites:
                each.answers.release()
                each.wait_for("asked", 2)
            process.signal(signal.SIGKILL)
            process.end()
        for each in sites:
            each.wait_for("left", 1)
            each.answers.release()
        with serving(tmp_path, "--dialect", "ignition") as (http, _):
            assert ended(http, run)["status"] == "completed"
            lost = http.get(f"/api/executions/{execution}").json()
            assert (lost["status"], list(lost["partial"]["steps"])) == ("failed", ["a"])
            assert do(http, execution, "resume").status_code == 409
            again = http.post(f"/runs/{execution}/rerun", json={"from_step": "last"}).json()["id"]
            shown = ended(http, again)
            assert (shown["status"], list(shown["result"]["steps"])) == ("completed", ["a", "b"])
        assert [each.asked for each in sites] == [["/a", "/b", "/b"]] * 2
