"""The list of runs stays true while runs come, change and go, in whatever order that is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, live, row, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def catch(page: Page, path: str | re.Pattern[str]) -> list[Route]:
    """Hold the requests to a path back; returns them as they come."""
    held: list[Route] = []
    page.route(path, lambda route: held.append(route))
    return held


def test_a_list_that_could_be_read_after_all_no_longer_says_that_it_could_not(
    pages: Pages, server: Server
) -> None:
    run = server.start("waiter")
    page = pages.window(caught=True)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503)

    page.route("**/runs?*", refuse)
    page.goto(server.url)
    foot = page.locator("run-list .foot")
    expect(foot).to_contain_text("could not be read")
    page.unroute("**/runs?*")
    live(page)
    expect(row(page, run)).to_be_visible()
    expect(foot).not_to_contain_text("could not be read")


def test_a_run_that_was_deleted_goes_when_one_acts_on_it(pages: Pages, server: Server) -> None:
    run, other = server.start("failing"), server.start("failing")
    server.wait(run)
    server.wait(other)
    page = pages.runs()
    server.http.delete(f"/runs/{run}").raise_for_status()
    row(page, run).get_by_role("button", name="Rerun").click()
    expect(row(page, run)).to_have_count(0)
    expect(row(page, other)).to_be_visible()


def test_what_was_asked_for_another_filter_selects_and_stops_nothing(
    pages: Pages, server: Server
) -> None:
    seen = server.start("waiter", {"tags": ["seen"]})
    server.start("waiter", {"tags": ["unseen"]})
    page = pages.runs("?tag=unseen", caught=True)
    page.locator(".rows").get_by_role("checkbox").check()
    held = catch(page, "**/runs?limit=500*")
    page.get_by_role("button", name="Select all that match").click()
    until(page, lambda: len(held) == 1)
    page.get_by_role("button", name="Stop all").click()
    until(page, lambda: len(held) == 2)
    page.get_by_label("Tag", exact=True).fill("seen")
    expect(row(page, seen)).to_be_visible()
    expect(page.locator(".rows .row")).to_have_count(1)
    with page.expect_response("**/runs?limit=500*"), page.expect_response("**/runs?limit=500*"):
        for route in held:
            route.continue_()
    page.unroute("**/runs?limit=500*")
    # What comes of the answers comes before this.
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(page.get_by_role("region", name="Selected runs")).to_be_hidden()
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_runs_that_newer_ones_crowd_out_come_all_the_same(pages: Pages, server: Server) -> None:
    """Of many that come at once a page is read, and newer ones may fill it by then."""
    page = pages.runs("?tag=crowd", caught=True)
    first = catch(page, "**/runs/run_*")
    crowd = catch(page, re.compile(r"/runs\?limit=\d&"))
    ids = [server.start("waiter", {"tags": ["crowd"]})]
    until(page, lambda: first)
    ids += [server.start("waiter", {"tags": ["crowd"]}) for _ in range(5)]
    page.unroute("**/runs/run_*")
    first[0].continue_()
    until(page, lambda: crowd or page.locator(".rows .row").count() > 1)
    ids += [server.start("waiter", {"tags": ["crowd"]}) for _ in range(5)]
    for route in crowd:
        route.continue_()
    page.unroute(re.compile(r"/runs\?limit=\d&"))
    expect(page.locator(".rows .row")).to_have_count(len(ids))


def test_what_fails_comes_to_a_list_of_what_has_failed(pages: Pages, server: Server) -> None:
    run = server.start("waiter", {"tags": ["ends"], "deadline_s": 1000})
    page = pages.runs("?status=stopped,failed&tag=ends")
    expect(page.locator("run-list .foot")).to_contain_text("No run is like that")
    server.stop(run)
    expect(chip(row(page, run))).to_have_text("stopped")
    short = server.start("failing", {"tags": ["ends"]})
    expect(chip(row(page, short))).to_have_text("failed")


def test_a_run_that_begins_to_ask_comes_to_the_list_of_those(pages: Pages, server: Server) -> None:
    run = server.start("drafter", {"tags": ["asks"]}, seconds=1000)
    page = pages.runs("?status=running,pausing,paused&asks=1&parent=any&tag=asks")
    expect(page.locator("run-list .foot")).to_contain_text("No run is like that")
    asks = server.start("asker", {"tags": ["asks"], "start_after_s": 0.5})
    expect(row(page, asks)).to_contain_text("asks: Publish it?")
    expect(row(page, run)).to_have_count(0)


def test_what_comes_while_the_list_is_read_anew_stays(pages: Pages, server: Server) -> None:
    page = pages.runs("?tag=anew", caught=True)
    before = server.start("waiter", {"tags": ["anew"]})
    expect(row(page, before)).to_be_visible()
    known = page.request.get(f"{server.url}/runs?tag=anew&parent=none")
    held = catch(page, "**/runs?limit=100*")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    until(page, lambda: held)
    # That was without a stream; it is read again as soon as there is one.
    held[0].continue_()
    until(page, lambda: len(held) == 2)
    run = server.start("waiter", {"tags": ["anew"]})
    expect(row(page, run)).to_be_visible()
    page.unroute("**/runs?limit=100*")
    held[1].fulfill(response=known)
    live(page)
    expect(row(page, before)).to_be_visible()
    expect(row(page, run)).to_be_visible()


def test_who_goes_back_finds_the_search_as_it_was(pages: Pages) -> None:
    page = pages.runs()
    search = page.get_by_role("searchbox")
    search.fill("one")
    expect(page).to_have_url(re.compile("q=one$"))
    page.get_by_label("Status").select_option(label="running")
    search.fill("one more")
    expect(page).to_have_url(re.compile("more"))
    page.go_back()
    expect(page).to_have_url(re.compile("q=one$"))
    expect(search).to_be_focused()
    expect(search).to_have_value("one")


def test_a_form_that_is_asked_for_twice_is_not_emptied(pages: Pages, server: Server) -> None:
    page = pages.runs(caught=True)
    held = catch(page, "**/agents")
    start = page.get_by_role("button", name="Start a run")
    start.click()
    start.click()
    until(page, lambda: len(held) == 2)
    held[0].continue_()
    form = page.locator("dialog[open]")
    form.get_by_label("Agent").select_option("echo")
    form.get_by_label("text").fill("written")
    with page.expect_response("**/agents"):
        held[1].continue_()
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(form.get_by_label("text")).to_have_value("written")


def test_a_run_that_ends_while_others_are_asked_for_is_not_missed(
    pages: Pages, server: Server
) -> None:
    page = pages.runs("?tag=ending", caught=True)
    held = catch(page, "**/runs/run_*")
    ids = [server.start("waiter", {"tags": ["ending"]}) for _ in range(3)]
    until(page, lambda: len(held) == 3)
    first, ends, last = (
        next(route for route in held if route.request.url.endswith(run)) for run in ids
    )
    first.continue_()
    expect(chip(row(page, ids[0]))).to_have_text("running")
    with page.expect_response(f"**/runs/{ids[1]}"):
        ends.continue_()
    # What is told of one run comes after what was told of another before.
    server.stop(ids[1], mode="now")
    server.stop(ids[0], mode="now")
    expect(chip(row(page, ids[0]))).to_have_text("stopped")
    page.unroute("**/runs/run_*")
    last.continue_()
    expect(chip(row(page, ids[2]))).to_have_text("running")
    expect(chip(row(page, ids[1]))).to_have_text("stopped")
