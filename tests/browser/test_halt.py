"""The halt: it is counted before it is asked for, shown while it lasts, and lifted again.

Each test has a server of its own, since a halt stops the runs of everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, row, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Route


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that nobody else uses."""
    with Server(tmp_path).running() as started:
        yield started


def test_a_halt_is_counted_shown_everywhere_and_lifted(pages: Pages, server: Server) -> None:
    runs = [server.start("waiter"), server.start("household", children=2)]
    page, other = pages.runs(), pages.run(runs[0])
    page.get_by_role("button", name="Halt…").click()
    panel = page.locator("dialog[open]")
    expect(panel).to_contain_text("This stops 4 runs, sub-agents included")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    assert server.http.get("/halt").json() == {"halt": None, "live": 4}

    page.get_by_role("button", name="Halt…").click()
    page.get_by_label("Reason").fill("maintenance")
    panel.get_by_role("button", name="Halt, and stop 4 runs").click()
    for window in (page, other):
        expect(window.locator("#halted")).to_contain_text("maintenance. Nothing starts.")
        expect(window.get_by_role("button", name="Halt…")).to_have_count(0)
    for run in runs:
        expect(chip(row(page, run))).to_have_text("stopped")
        stop = server.get(run)["stop"]
        assert (stop["source"], stop["reason"]) == ("halt", "maintenance")

    page.locator("#halted").get_by_role("button", name="Allow starts again").click()
    for window in (page, other):
        expect(window.locator("#halted")).to_be_hidden()
    assert server.http.get("/halt").json()["halt"] is None
    page.get_by_role("button", name="Halt…").click()
    expect(panel).to_contain_text("Nothing runs at present.")


def test_a_halt_is_shown_though_nothing_runs_that_could_tell_of_it(
    pages: Pages, server: Server
) -> None:
    page = pages.runs()
    expect(page.locator("run-list")).to_contain_text("There are no runs yet.")
    server.http.post("/halt", json={"reason": "for the night"}).raise_for_status()
    expect(page.locator("#halted")).to_contain_text("for the night", timeout=15_000)


def test_while_it_is_halted_nothing_can_be_started(pages: Pages, server: Server) -> None:
    server.http.post("/halt", json={"reason": "for the night"}).raise_for_status()
    page = pages.runs("?start=waiter")
    expect(page.locator("#halted")).to_contain_text("for the night")
    panel = page.locator("dialog[open]")
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_role("alert")).to_contain_text("halted")
    assert server.http.get("/runs").json()["runs"] == []
    # Somebody else lifts it: the page finds out, and the same form starts the run.
    server.http.delete("/halt").raise_for_status()
    expect(page.locator("#halted")).to_be_hidden()
    panel.get_by_role("button", name="Start").click()
    page.wait_for_url("**/dashboard/runs/run_*")
    expect(chip(page)).to_have_text("running")


def test_a_halt_outlives_its_server(browser: Browser, tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        server.http.post("/halt", json={"reason": "moving"}).raise_for_status()
        server.kill()
    with server.running():
        pages = Pages(browser, server)
        expect(pages.runs().locator("#halted")).to_contain_text("moving")
        pages.close()


def test_a_halt_that_cannot_be_asked_for_is_not_shown(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.runs(caught=True)
    page.route("**/halt", refuse_to_halt)
    page.get_by_role("button", name="Halt…").click()
    page.locator("dialog[open]").get_by_role("button", name="Halt, and stop 1 run").click()
    toast = page.locator(".toast.error")
    expect(toast).to_contain_text("Nothing was halted")
    expect(page.locator("#halted")).to_be_hidden()
    assert server.get(run)["status"] == "running"
    page.unroute("**/halt")
    toast.get_by_role("button", name="Try again").click()
    expect(page.locator("#halted")).to_be_visible()
    expect(chip(row(page, run))).to_have_text("stopped")


def refuse_to_halt(route: Route) -> None:
    if route.request.method == "POST":
        route.abort()
    else:
        route.continue_()


def test_what_was_asked_before_a_halt_does_not_hide_it(pages: Pages, server: Server) -> None:
    page = pages.runs(caught=True)
    held: list[Route] = []
    page.route("**/halt", lambda route: held.append(route))
    read = "document.querySelector('halt-switch').reload().catch(() => {}), null"
    page.evaluate(read)
    until(page, lambda: held)
    before = server.http.get("/halt").json()
    server.http.post("/halt", json={}).raise_for_status()
    page.evaluate(read)
    until(page, lambda: len(held) == 2)
    page.unroute("**/halt")
    held[1].continue_()
    expect(page.locator("#halted")).to_be_visible()
    with page.expect_response("**/halt"):
        held[0].fulfill(json=before)
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(page.locator("#halted")).to_be_visible()
    server.http.delete("/halt").raise_for_status()
    expect(page.locator("#halted")).to_be_hidden()
