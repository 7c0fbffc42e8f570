"""Much of everything: what matters stays within reach, and nothing is asked for twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, row

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

AT = "2026-11-20T00:00:00.000Z"
# More than are drawn without being asked for.
CHILDREN = 2_100


def with_a_crowd_below(page: Page, run: str) -> None:
    """Let the run have very many sub-agents, as far as its feed tells."""

    def event(seq: int, run_id: str, kind: str, **data: Any) -> dict[str, Any]:
        return {"seq": seq, "run_id": run_id, "root_id": run, "type": kind, "at": AT, "data": data}

    events = [
        event(1, run, "run.queued", agent="waiter", parent_id=None),
        event(2, run, "run.started", agent="waiter", attempt=1),
    ]
    events += [
        event(3 + n, f"run_child{n}", "run.queued", agent="waiter", parent_id=run)
        for n in range(CHILDREN)
    ]

    def answer(route: Route) -> None:
        if "event-stream" in route.request.headers["accept"]:
            route.abort()
        elif "after=0" in route.request.url:
            route.fulfill(json={"events": events, "next": None})
        else:
            route.fulfill(json={"events": [], "next": None})

    page.route(f"**/runs/{run}/events*", answer)


def test_a_very_large_tree_is_drawn_when_somebody_wants_it(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.window()
    with_a_crowd_below(page, run)
    page.goto(f"{server.url}/dashboard/runs/{run}")
    timeline = page.locator("run-timeline")
    expect(timeline).to_contain_text(f"This tree has {CHILDREN + 1:,} runs.")
    expect(timeline.locator(".branch:visible")).to_have_count(0)
    expect(page.locator("run-log .line").first).to_be_visible()
    expect(page.locator("run-head").get_by_role("button", name="Stop")).to_be_enabled()

    timeline.get_by_role("button", name="Draw it").click()
    expect(timeline.locator(".branch:visible").first).to_contain_text("waiter")
    assert timeline.locator(".branch").count() < 60
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(chip(page)).to_have_text("stopped")


def test_of_a_large_result_a_part_is_shown_and_the_rest_on_request(
    pages: Pages, server: Server
) -> None:
    run = server.start("echo", text="x" * 200_000)
    assert server.wait(run) == "succeeded"
    listed = server.http.get("/runs", params={"limit": 1}).json()["runs"][0]
    assert "partial" not in listed
    page = pages.run(run)
    result = page.locator("#results .json-view")
    expect(result).to_contain_text("200,000 characters")
    assert len(str(result.text_content())) < 1_000
    result.get_by_role("button", name="Show all of it").click()
    assert len(str(result.locator("pre").text_content())) > 200_000


def test_what_changes_is_patched_and_not_read_again(pages: Pages, server: Server) -> None:
    page = pages.runs()
    run = server.start("writer", pages=1000, seconds=0.03)
    expect(row(page, run)).to_contain_text("of 1000 pages")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    first = percent(page, run)
    page.wait_for_function(
        "([id, first]) => parseInt(document.querySelector(`a[href$='${id}']`).closest('.row')"
        ".querySelector('.words').textContent) > first + 2",
        arg=[run, first],
    )
    assert asked == []
    server.stop(run, mode="now")


def percent(page: Page, run: str) -> int:
    return int(str(row(page, run).locator(".words").text_content()).split()[0])


def test_what_is_over_is_left_out_of_a_tree(pages: Pages, server: Server) -> None:
    run = server.start("household", children=3)
    page = pages.run(run)
    branches = page.locator("run-timeline .branch")
    expect(branches).to_have_count(4)
    child = server.http.get(f"/runs/{run}/tree").json()["children"][0]["id"]
    server.stop(child, mode="now")
    expect(page.locator(".branch[data-status=stopped]")).to_have_count(1)
    sieve = page.locator("run-timeline select")
    sieve.select_option(label="Live")
    expect(branches).to_have_count(3)
    sieve.select_option(label="Not succeeded")
    expect(branches).to_have_count(1)
    expect(page).to_have_url(re.compile("tree=trouble"))
    page.reload()
    expect(branches).to_have_count(1)
    sieve.select_option(label="All")
    expect(branches).to_have_count(4)


def test_a_key_stops_the_run_of_the_row_that_has_the_focus(pages: Pages, server: Server) -> None:
    run, other = server.start("waiter"), server.start("waiter")
    page = pages.runs()
    row(page, run).get_by_role("link", name="waiter").focus()
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_contain_text(run)
    page.keyboard.press("Enter")
    expect(chip(row(page, run))).to_have_text("stopped")
    expect(chip(row(page, other))).to_have_text("running")


def test_every_status_explains_itself(pages: Pages, server: Server) -> None:
    runs = {
        "stopped": server.start("waiter"),
        "succeeded": server.start("painter"),
        "running": server.start("waiter"),
    }
    server.stop(runs["stopped"], mode="now")
    page = pages.runs()
    said = set()
    for status, run in runs.items():
        shown = chip(row(page, run))
        expect(shown).to_have_text(status)
        expect(shown).to_have_attribute("title", re.compile(r"\w+ \w+ \w+"))
        said.add(shown.get_attribute("title"))
    assert len(said) == 3


def test_what_fails_comes_to_those_that_did_not_succeed(pages: Pages, server: Server) -> None:
    run = server.start("household", children=2)
    page = pages.run(run)
    branches = page.locator("run-timeline .branch")
    expect(branches).to_have_count(3)
    page.locator("run-timeline select").select_option(label="Not succeeded")
    expect(branches).to_have_count(0)
    child = server.http.get(f"/runs/{run}/tree").json()["children"][0]["id"]
    server.stop(child, mode="now")
    expect(branches).to_have_count(1)
    expect(branches).to_have_attribute("data-status", "stopped")
