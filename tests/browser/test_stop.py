"""The stop button: what it shows, when it is there, and that everybody sees the same."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.looking import chip, row, until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

    from tests.browser.looking import Pages, Server

STOP = re.compile("^Stop$")

# Notes in the page when its first status is one that it was not before.
NOTE_STATUSES = """() => {
    window.noted = {};
    const note = () => {
        const chip = document.querySelector('.row status-chip, run-head status-chip');
        if (chip?.status) window.noted[chip.status] ??= Date.now();
    };
    new MutationObserver(note).observe(document.body, {subtree: true, childList: true,
        attributes: true});
    note();
}"""


def open_panel(page: Page) -> None:
    page.locator("run-head").get_by_role("button", name=STOP).click()
    expect(page.locator("dialog[open]")).to_be_visible()


def test_G4_a_stop_is_seen_at_once_and_then_proved(pages: Pages, server: Server) -> None:
    run = server.start("writer", seconds=4)
    page = pages.run(run)
    expect(chip(page)).to_have_text("running")

    open_panel(page)
    page.get_by_label("Reason").fill("wrong topic")
    page.locator("dialog").get_by_role("button", name=STOP).click()

    busy = page.locator("stop-button button.stopping")
    expect(busy).to_be_disabled()
    expect(busy).to_have_text("Stopping…")
    expect(page.locator(".strip")).to_contain_text("after the current LLM call completes")
    expect(page.locator(".strip")).to_contain_text("wrong topic")
    expect(chip(page)).to_have_text("stopped")
    expect(page.locator("stop-button button")).to_have_count(0)
    expect(page.get_by_role("button", name="Rerun")).to_be_visible()
    expect(page.get_by_role("link", name="View results")).to_be_visible()
    expect(page.locator("stop-receipt")).to_contain_text("wrong topic")
    expect(page.locator("stop-receipt .ladder li.reached")).to_have_count(4)
    receipt = server.get(run)["stop"]
    assert (receipt["mode"], receipt["reached"], receipt["reason"]) == (
        "graceful",
        "graceful",
        "wrong topic",
    )


def test_G5_stopped_is_no_failure_its_chip_is_grey(pages: Pages, server: Server) -> None:
    run, failed = server.start("waiter"), server.start("failing")
    server.stop(run)
    page = pages.runs()
    stopped = row(page, run).locator("status-chip.stopped")
    expect(stopped).to_have_text("stopped")
    expect(stopped.locator(".icon-stopped")).to_be_visible()
    assert is_grey(stopped)
    assert is_red(row(page, failed).locator("status-chip.failed"))


def is_grey(element: Locator) -> bool:
    parts = color_of(element)
    return max(parts) - min(parts) < 32


def is_red(element: Locator) -> bool:
    red, green, blue = color_of(element)
    return red > 2 * max(green, blue)


def color_of(element: Locator) -> list[int]:
    """Return how much red, green and blue is in what an element says."""
    color = element.evaluate("(element) => getComputedStyle(element).color")
    return [int(part) for part in re.findall(r"\d+", color)[:3]]


def test_A5_the_button_is_red_and_there_only_while_there_is_something_to_stop(
    pages: Pages, server: Server
) -> None:
    live, over = server.start("waiter"), server.start("failing")
    page = pages.runs()
    stop = row(page, live).get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    assert is_red(stop)
    expect(row(page, over)).to_contain_text("ValueError: as asked")
    expect(row(page, over).get_by_role("button", name="Stop")).to_have_count(0)
    expect(row(page, over).get_by_role("button", name="Rerun")).to_be_visible()


def test_A5_a_spinner_turns_while_it_is_stopping_and_a_toast_says_so(
    pages: Pages, server: Server
) -> None:
    run = server.start("writer")
    page = pages.run(run)
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    toast = page.locator(".toast")
    expect(toast).to_contain_text("Stopping: writer")
    expect(page.locator(".toast.error")).to_have_count(0)
    spinner = page.locator("status-chip .icon-stopping")
    expect(spinner).to_be_visible()
    assert spinner.evaluate("(icon) => getComputedStyle(icon).animationName") != "none"
    expect(page.locator("stop-button button.stopping")).to_be_disabled()
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("stopped")
    expect(spinner).to_have_count(0)


def test_J5_in_the_list_the_button_goes_grey_and_then_makes_way(
    pages: Pages, server: Server
) -> None:
    run = server.start("writer")
    page = pages.runs()
    here = row(page, run)
    assert is_red(here.get_by_role("button", name="Stop"))
    here.get_by_role("button", name="Stop").click()
    page.locator("dialog[open]").get_by_role("button", name=STOP).click()
    expect(page.locator(".toast")).to_contain_text("Stopping: writer")
    expect(here.locator("status-chip .icon-stopping")).to_be_visible()
    expect(here.locator("stop-button button.stopping")).to_be_disabled()
    assert is_grey(here.locator("stop-button button.stopping"))
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("stopped")
    expect(here.locator("stop-button button")).to_have_count(0)
    expect(here.get_by_role("button", name="Rerun")).to_be_visible()


def test_two_browsers_and_a_client_see_the_same_stop(pages: Pages, server: Server) -> None:
    """Stopping and stopped come everywhere within 500 ms; a loaded machine is given more."""
    run = server.start("writer", seconds=2)
    windows = [pages.runs(), pages.run(run), pages.run(run)]
    for page in windows:
        page.evaluate(NOTE_STATUSES)

    asked = time.time() * 1000
    server.stop(run)
    answered = time.time() * 1000
    for page in windows:
        expect(chip(page)).to_have_text("stopped")
    assert server.wait(run) == "stopped"

    noted = [page.evaluate("window.noted") for page in windows]
    stopping = [seen["stopping"] - asked for seen in noted]
    stopped = [seen["stopped"] for seen in noted]
    print(f"\nstopping after {stopping} ms, answered after {answered - asked:.0f} ms")
    print(f"stopped within {max(stopped) - min(stopped)} ms of each other")
    assert max(stopping) < 2_000
    assert max(stopped) - min(stopped) < 2_000


def test_escape_stops_nothing(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.run(run)
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_be_visible()
    page.get_by_label("Reason").fill("not meant")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(chip(page)).to_have_text("running")
    assert server.get(run)["status"] == "running"


def test_all_of_it_works_with_the_keyboard(pages: Pages, server: Server) -> None:
    run = server.start("writer")
    page = pages.run(run)
    page.keyboard.press("s")
    expect(page.locator("input[value=graceful]")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator("dialog").get_by_role("button", name="Stop now")).to_be_visible()
    page.keyboard.press("Enter")
    expect(chip(page)).to_have_text("stopped")
    assert server.get(run)["stop"]["mode"] == "now"


def test_a_key_does_nothing_for_those_who_have_turned_it_off(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("waiter"))
    page.get_by_label("Settings").click()
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.reload()
    expect(chip(page)).to_have_text("running")
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_a_stop_can_be_made_stricter_while_it_lasts(pages: Pages, server: Server) -> None:
    run = server.start("writer")
    page = pages.run(run)
    server.stop(run, grace_s=1000)
    strip = page.locator(".strip")
    expect(strip).to_contain_text("after the current LLM call completes")
    expect(strip.get_by_role("button", name="Kill")).to_be_visible()
    strip.get_by_role("button", name="Stop now").click()
    expect(chip(page)).to_have_text("stopped")
    receipt = server.get(run)["stop"]
    assert (receipt["mode"], [each["mode"] for each in receipt["also"]]) == ("now", ["now"])
    expect(page.locator("stop-receipt")).to_contain_text("Asked again: now")


def test_cleanup_is_told_with_the_time_that_it_has_left(pages: Pages, server: Server) -> None:
    run = server.start("tidy", {"cleanup_s": 600})
    page = pages.run(run)
    server.stop(run)
    expect(page.locator(".strip")).to_contain_text(re.compile(r"cleaning up.* min .* left"))
    page.locator(".strip").get_by_role("button", name="Kill").click()
    expect(chip(page)).to_have_text(re.compile("stopped|abandoned"))


def test_code_that_will_not_exit_is_abandoned_not_stopped(pages: Pages, server: Server) -> None:
    run = server.start("stubborn", {"cleanup_s": 0.2})
    page = pages.run(run)
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("abandoned")
    expect(page.locator(".strip")).to_contain_text("let go of code that would not exit")
    page.get_by_text("Code that still stands").click()
    expect(page.locator("stop-receipt")).to_contain_text("agents.py")


def refuse_once(page: Page, path: str, answer: dict[str, Any] | None) -> None:
    """Let the first request to the path fail: with that answer, or without any."""
    asked = []

    def handle(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()
        else:
            refuse(route, answer)

    page.route(path, handle)


def refuse(route: Route, answer: dict[str, Any] | None) -> None:
    """Let a request fail: with that answer, or without any."""
    if answer is None:
        route.abort()
    else:
        kind = "application/problem+json"
        route.fulfill(status=answer["status"], json=answer, content_type=kind)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"type": "urn:quiesce:internal-error", "status": 500, "detail": "a mistake"},
            "could not be stopped: a mistake",
        ),
        # It may have been carried out, for all that the page knows.
        (None, "whether this reached waiter {run} is not known"),
    ],
    ids=["refused", "no-answer"],
)
def test_B4_what_was_shown_too_early_is_taken_back_if_the_request_fails(
    pages: Pages, server: Server, answer: dict[str, Any] | None, said: str
) -> None:
    run = server.start("waiter")
    page = pages.run(run, caught=True)
    held: list[Route] = []
    page.route("**/stop", lambda route: held.append(route))

    page.keyboard.press("s")
    page.keyboard.press("Enter")
    # A refusal that comes before the next frame is drawn would leave nothing to take back.
    expect(chip(page)).to_have_text("stopping…")
    until(page, lambda: held)
    refuse(held[0], answer)
    page.unroute("**/stop")
    toast = page.locator(".toast.error")
    expect(toast).to_contain_text(said.format(run=run))
    expect(chip(page)).to_have_text("running")
    expect(page.locator("run-head").get_by_role("button", name=STOP)).to_be_enabled()
    assert server.get(run)["status"] == "running"

    toast.get_by_role("button", name="Try again").click()
    expect(chip(page)).to_have_text("stopped")


def test_B4_what_is_read_meanwhile_does_not_make_it_stay(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("drafter", seconds=0.2), caught=True)
    held: list[Route] = []
    page.route("**/stop", lambda route: held.append(route))
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(chip(page)).to_have_text("stopping…")
    until(page, lambda: held)
    with page.expect_response("**/partial"):
        pass
    refuse(held[0], None)
    expect(page.locator(".toast.error")).to_contain_text("No answer from the server")
    expect(chip(page)).to_have_text("running")


@pytest.mark.parametrize(
    ("status", "kind"), [(409, "run-ended"), (404, "unknown-run")], ids=["over", "gone"]
)
def test_A5_a_page_that_is_behind_catches_up_in_silence(
    pages: Pages, server: Server, status: int, kind: str
) -> None:
    run = server.start("waiter")
    page = pages.run(run, caught=True)
    refuse_once(page, "**/stop", {"type": f"urn:quiesce:{kind}", "status": status, "detail": "no"})
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(chip(page)).to_have_text("running")
    expect(page.locator("run-head").get_by_role("button", name=STOP)).to_be_enabled()
    expect(page.locator(".toast")).to_have_count(0)


def test_a_run_that_ends_while_the_panel_is_open_cannot_be_stopped(
    pages: Pages, server: Server
) -> None:
    run = server.start("asker")
    page = pages.run(run)
    page.keyboard.press("s")
    asked = server.get(run)["waiting_for"]["question_id"]
    server.http.post(f"/runs/{run}/answer", json={"question_id": asked, "answer": "yes"})
    panel = page.locator("dialog[open]")
    expect(panel).to_contain_text("It has ended: succeeded.")
    expect(panel.get_by_role("button", name=STOP)).to_be_disabled()


def test_one_sub_agent_is_stopped_from_the_tree(pages: Pages, server: Server) -> None:
    run = server.start("household")
    page = pages.run(run)
    branches = page.locator("run-timeline .branch")
    expect(branches).to_have_count(4)
    branches.nth(2).hover()
    branches.nth(2).get_by_role("button", name="Stop").click()
    expect(page.locator("dialog[open]")).to_contain_text("Stop waiter")
    page.get_by_label("now").check()
    page.locator("dialog").get_by_role("button", name="Stop now").click()
    expect(page.locator(".branch[data-status=stopped]")).to_have_count(1)
    tree = server.http.get(f"/runs/{run}/tree").json()
    assert sorted(child["status"] for child in tree["children"]) == [
        "running",
        "running",
        "stopped",
    ]
    expect(chip(page)).to_have_text("running")


def test_the_panel_says_how_many_are_below(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("family", children=3))
    expect(page.locator("run-timeline .branch")).to_have_count(4)
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_contain_text("3 sub-agents below it")


def test_partial_results_can_be_thrown_away(pages: Pages, server: Server) -> None:
    run = server.start("writer", seconds=0.2)
    page = pages.run(run)
    expect(page.locator("run-results")).to_contain_text('"pages"')
    page.keyboard.press("s")
    page.get_by_label("Throw away").check()
    page.locator("dialog").get_by_role("button", name=STOP).click()
    expect(chip(page)).to_have_text("stopped")
    assert server.get(run)["partial"] is None
