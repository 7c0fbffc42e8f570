"""Many runs at once: what is selected is counted, stopped, and followed to its end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, row

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route


def panel(page: Page) -> Locator:
    return page.locator("dialog[open]")


def test_those_that_are_selected_are_stopped_and_no_others(pages: Pages, server: Server) -> None:
    chosen = [server.start("waiter") for _ in range(3)]
    other = server.start("waiter")
    page = pages.runs()
    for run in chosen:
        row(page, run).get_by_role("checkbox").check()
    bar = page.get_by_role("region", name="Selected runs")
    expect(bar).to_contain_text("3 runs selected")
    bar.get_by_role("button", name="Stop").click()
    expect(panel(page)).to_contain_text("Stop 3 runs")
    expect(panel(page)).to_contain_text("3 running, and everything below them.")
    page.get_by_label("Reason").fill("tidying")
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    followed = page.get_by_role("region", name="Stop of many runs")
    expect(followed).to_contain_text("All 3 have ended")
    expect(bar).to_be_hidden()
    for run in chosen:
        expect(chip(row(page, run))).to_have_text("stopped")
        assert server.get(run)["stop"]["reason"] == "tidying"
    expect(chip(row(page, other))).to_have_text("running")
    assert server.get(other)["status"] == "running"


def test_what_has_ended_meanwhile_is_left_out_and_counted(pages: Pages, server: Server) -> None:
    chosen = [server.start("waiter") for _ in range(2)]
    page = pages.runs()
    for run in chosen:
        row(page, run).get_by_role("checkbox").check()
    server.stop(chosen[0])
    expect(chip(row(page, chosen[0]))).to_have_text("stopped")
    page.get_by_role("region", name="Selected runs").get_by_role("button", name="Stop").click()
    expect(panel(page)).to_contain_text("Stop 1 run")
    expect(panel(page)).to_contain_text("1 other of the selection has ended.")


def test_all_that_match_are_those_of_the_filter(pages: Pages, server: Server) -> None:
    """Those that match and are not loaded as well; but nothing that does not."""
    wanted = [server.start("waiter", {"tags": ["many"]}) for _ in range(105)]
    spared = server.start("waiter")
    page = pages.runs("?tag=many")
    row(page, wanted[-1]).get_by_role("checkbox").check()
    page.get_by_role("button", name="Select all that match").click()
    expect(page.get_by_role("region", name="Selected runs")).to_contain_text("105 runs selected")
    page.get_by_role("region", name="Selected runs").get_by_role("button", name="Stop").click()
    expect(panel(page)).to_contain_text("and 100 others")
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    expect(page.get_by_role("region", name="Stop of many")).to_contain_text("All 105 have ended")
    assert {server.get(run)["status"] for run in wanted} == {"stopped"}
    assert server.get(spared)["status"] == "running"


def test_an_answer_that_comes_after_the_ends_brings_none_of_them_back(
    pages: Pages, server: Server
) -> None:
    """Those that are not loaded are forgotten as they end, but not while they are counted."""
    wanted = [server.start("waiter", {"tags": ["late"]}) for _ in range(105)]
    page = pages.runs("?tag=late", caught=True)
    held: list[Route] = []
    page.route("**/runs/stop", lambda route: held.append(route))
    page.get_by_role("button", name="Stop all").click()
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    followed = page.get_by_role("region", name="Stop of many runs")
    expect(followed).to_contain_text("0 ended, 105 to go")
    answer = held[0].fetch()
    assert {server.wait(run) for run in wanted} == {"stopped"}
    # Once this one is there the page has heard of all that came before it.
    expect(row(page, server.start("waiter", {"tags": ["late"]}))).to_be_visible()
    held[0].fulfill(response=answer)
    expect(followed).to_contain_text("All 105 have ended")


def test_a_stop_is_hurried_before_it_was_answered(pages: Pages, server: Server) -> None:
    run = server.start("writer", {"tags": ["slow to answer"]})
    page = pages.runs("?tag=slow to answer", caught=True)
    held: list[Route] = []
    page.route("**/runs/stop", lambda route: held.append(route))
    page.get_by_role("button", name="Stop all").click()
    page.get_by_label("for at most").fill("600")
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    followed = page.get_by_role("region", name="Stop of many runs")
    followed.get_by_role("button", name="Stop the rest harder").click()
    page.get_by_label("now").check()
    panel(page).get_by_role("button", name="Stop now").click()
    expect(panel(page)).to_be_hidden()
    for each in held:
        each.continue_()
    expect(chip(row(page, run))).to_have_text("stopped")


def test_stop_all_stops_what_the_filter_shows(pages: Pages, server: Server) -> None:
    wanted = server.start("writer", {"tags": ["all of it"]})
    spared = server.start("waiter")
    page = pages.runs("?tag=all of it")
    page.get_by_role("button", name="Stop all").click()
    expect(panel(page)).to_contain_text("Stop 1 run")
    page.get_by_label("for at most").fill("600")
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    followed = page.get_by_role("region", name="Stop of many runs")
    expect(followed).to_contain_text("0 ended, 1 to go")
    expect(chip(row(page, wanted))).to_have_text("stopping…")
    followed.get_by_role("button", name="Stop the rest harder").click()
    page.get_by_label("now").check()
    panel(page).get_by_role("button", name="Stop now").click()
    expect(chip(row(page, wanted))).to_have_text("stopped")
    assert server.get(spared)["status"] == "running"


def test_what_was_shown_too_early_is_taken_back_of_all(pages: Pages, server: Server) -> None:
    chosen = [server.start("waiter") for _ in range(2)]
    page = pages.runs(caught=True)
    page.route("**/runs/stop", lambda route: route.abort())
    for run in chosen:
        row(page, run).get_by_role("checkbox").check()
    page.get_by_role("region", name="Selected runs").get_by_role("button", name="Stop").click()
    page.keyboard.press("Enter")
    expect(page.locator(".toast.error")).to_contain_text("whether this reached 2 runs is not known")
    for run in chosen:
        expect(chip(row(page, run))).to_have_text("running")
    expect(page.get_by_role("region", name="Stop of many runs")).to_be_hidden()
    assert {server.get(run)["status"] for run in chosen} == {"running"}


def test_only_what_is_seen_is_selected(pages: Pages, server: Server) -> None:
    """A search leaves out runs that are loaded, and those must not be stopped unseen."""
    seen, unseen = [server.start("waiter", {"tags": [tag]}) for tag in ("sought", "other")]
    page = pages.runs("?q=sought")
    expect(row(page, seen)).to_be_visible()
    expect(row(page, unseen)).to_be_hidden()
    everything = page.get_by_label("Select all", exact=True)
    everything.check()
    bar = page.get_by_role("region", name="Selected runs")
    expect(bar).to_contain_text("1 run selected")
    bar.get_by_role("button", name="Clear").click()
    expect(everything).not_to_be_checked()
    everything.check()
    another = server.start("waiter", {"tags": ["sought"]})
    expect(row(page, another)).to_be_visible()
    expect(everything).not_to_be_checked()
    bar.get_by_role("button", name="Stop").click()
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    expect(chip(row(page, seen))).to_have_text("stopped")
    assert {server.get(run)["status"] for run in (unseen, another)} == {"running"}


def test_runs_that_cannot_be_counted_are_not_passed_over_in_silence(
    pages: Pages, server: Server
) -> None:
    run = server.start("waiter", {"tags": ["uncounted"]})
    page = pages.runs("?tag=uncounted", caught=True)
    row(page, run).get_by_role("checkbox").check()
    page.route("**/runs?*", lambda route: route.abort())
    failed = page.locator(".toast.error")
    for name in ("Select all that match", "Stop all"):
        page.get_by_role("button", name=name).click()
        expect(failed).to_contain_text("could not be counted: the server does not answer")
        failed.get_by_role("button", name="Close this notice").click()
    page.get_by_role("button", name="Stop all").click()
    page.unroute("**/runs?*")
    failed.get_by_role("button", name="Try again").click()
    expect(panel(page)).to_contain_text("Stop 1 run")


def test_of_very_many_those_that_could_not_be_asked_for_can_be_asked_for_again(
    pages: Pages, server: Server
) -> None:
    """The server takes a thousand in a call; here most of them are only said to be there."""
    asked = [server.start("waiter", {"tags": ["thousands"]}) for _ in range(2)]
    left = server.start("waiter", {"tags": ["thousands"]})
    page = pages.runs("?tag=thousands", caught=True)
    for run in (*asked, left):
        expect(chip(row(page, run))).to_have_text("running")
    orders: list[list[str]] = []

    def pass_some(route: Route) -> None:
        ids = json.loads(route.request.post_data or "")["ids"]
        orders.append(ids)
        if len(orders) == 2:
            route.abort()
        else:
            known = [run for run in ids if run in (*asked, left)]
            answer = server.http.post("/runs/stop", json={"ids": known, "mode": "graceful"}).json()
            gone = {"status_code": 404, "problem": {"status": 404, "detail": "there is none"}}
            answer["results"] += [gone | {"run_id": run} for run in ids if run not in known]
            route.fulfill(json=answer)

    def tell_more(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        more = [told["runs"][0] | {"id": f"run_{number:020d}"} for number in range(998)]
        by_id = {run["id"]: run for run in told["runs"]}
        told["runs"] = [by_id[asked[0]], by_id[asked[1]], *more, by_id[left]]
        route.fulfill(response=answer, json=told)

    page.route("**/runs/stop", pass_some)
    page.route("**/runs?limit=500*", tell_more)
    page.get_by_role("button", name="Stop all").click()
    expect(panel(page)).to_contain_text("Stop 1,001 runs")
    panel(page).get_by_role("button", name=re.compile("^Stop$")).click()
    failed = page.locator(".toast.error")
    expect(failed).to_contain_text("whether this reached 1 run of 1001 is not known")
    followed = page.get_by_role("region", name="Stop of many runs")
    expect(followed).to_contain_text("Stopping 1,000 runs")
    for run in asked:
        expect(chip(row(page, run))).to_have_text("stopped")
    expect(chip(row(page, left))).to_have_text("running")
    failed.get_by_role("button", name="Try again").click()
    expect(followed).to_contain_text("All 1 have ended")
    expect(chip(row(page, left))).to_have_text("stopped")
    assert [len(ids) for ids in orders] == [1000, 1, 1]
