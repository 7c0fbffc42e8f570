"""What is shown is true, or looks as if it might not be: nothing that was stopped comes back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, live, row, until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

# Notes every status that the page shows, in order, and every action that it offers.
WATCH = """() => {
    window.seen = [];
    window.offered = new Set();
    const note = () => {
        const status = document.querySelector('run-head status-chip')?.status;
        if (status && window.seen.at(-1) !== status) window.seen.push(status);
        document.querySelectorAll('run-head .do button').forEach(
            (button) => window.offered.add(`${status} ${button.textContent}`));
    };
    new MutationObserver(note).observe(document, {subtree: true, childList: true,
        attributes: true, characterData: true});
    note();
}"""


def watch(page: Page) -> None:
    page.evaluate(WATCH)


def seen(page: Page) -> list[str]:
    statuses: list[str] = page.evaluate("window.seen")
    return statuses


def offered(page: Page) -> set[str]:
    return set(page.evaluate("[...window.offered]"))


@pytest.fixture
def mortal(tmp_path: Path) -> Server:
    """A server that the test runs itself, and may end."""
    return Server(tmp_path)


def state(page: Page, *expected: str) -> None:
    pattern = re.compile("|".join(f"^{each}$" for each in expected))
    expect(page.locator("html")).to_have_attribute("data-connection", pattern)


def test_a_reload_in_the_middle_of_a_stop(pages: Pages, server: Server) -> None:
    run = server.start("writer")
    page = pages.run(run)
    page.add_init_script(f"addEventListener('DOMContentLoaded', {WATCH})")
    server.stop(run, grace_s=600)
    expect(chip(page)).to_have_text("stopping…")
    page.reload()
    expect(chip(page)).to_have_text("stopping…")
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("stopped")
    assert seen(page) == ["stopping", "stopped"]
    assert not [each for each in offered(page) if "Resume" in each or "Pause" in each]


def test_the_back_button_leads_to_what_is_true_now(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.runs()
    expect(chip(row(page, run))).to_have_text("running")
    row(page, run).get_by_role("link", name="waiter").click()
    expect(chip(page)).to_have_text("running")
    server.stop(run)
    expect(chip(page)).to_have_text("stopped")
    page.go_back()
    live(page)
    expect(chip(row(page, run))).to_have_text("stopped")
    page.go_forward()
    expect(chip(page)).to_have_text("stopped")


@pytest.mark.parametrize("agent", ["waiter", "family"])
def test_a_page_that_slept_through_a_stop_wakes_to_it(
    pages: Pages, server: Server, agent: str
) -> None:
    run = server.start(agent)
    page = pages.run(run)
    server.http.post(f"/runs/{run}/pause")
    expect(chip(page)).to_have_text(re.compile("paus"))
    devtools = page.context.new_cdp_session(page)
    devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    server.stop(run, mode="now")
    assert server.wait(run) == "stopped"
    devtools.send("Page.setWebLifecycleState", {"state": "active"})
    expect(chip(page)).to_have_text("stopped")
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)


def without_streams(page: Page) -> list[Route]:
    """Let no event stream of the page through, from now on."""
    refused: list[Route] = []

    def handle(route: Route) -> None:
        if "event-stream" in route.request.headers.get("accept", ""):
            refused.append(route)
            route.abort()
        else:
            route.continue_()

    page.route("**/events*", handle)
    return refused


def test_B4_a_stop_works_without_the_event_stream(pages: Pages, server: Server) -> None:
    run = server.start("writer")
    page = pages.window()
    statuses: dict[int, int] = {}

    def count(response: Any) -> None:
        if response.url.endswith(f"/runs/{run}"):
            statuses[response.status] = statuses.get(response.status, 0) + 1

    page.on("response", count)
    refused = without_streams(page)
    page.goto(f"{server.url}/dashboard/runs/{run}")
    state(page, "polling")
    expect(page.locator("connection-state")).to_contain_text("Not live")
    watch(page)
    page.wait_for_function("() => true")
    until(page, lambda: statuses.get(304))
    page.keyboard.press("s")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(chip(page)).to_have_text("stopped")
    assert seen(page) == ["running", "stopping", "stopped"]
    assert refused


def test_the_list_changes_without_the_event_stream(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.window()
    without_streams(page)
    page.goto(server.url)
    state(page, "polling")
    expect(chip(row(page, run))).to_have_text("running")
    server.stop(run)
    expect(chip(row(page, run))).to_have_text("stopped")
    other = server.start("waiter")
    expect(chip(row(page, other))).to_have_text("running")


def test_a_stop_that_a_crash_interrupts_is_never_shown_as_undone(
    browser: Browser, mortal: Server
) -> None:
    with mortal.running():
        run = mortal.start("writer")
        pages = Pages(browser, mortal)
        page, listed = pages.run(run), pages.runs()
        watch(page)
        mortal.stop(run, grace_s=1000, reason="enough")
        expect(chip(page)).to_have_text("stopping…")
        mortal.kill()
        state(page, "offline")
        expect(page.locator("connection-state")).to_contain_text("No connection")
        expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    with mortal.running():
        state(page, "live", "over")
        expect(chip(page)).to_have_text("stopped")
        expect(chip(row(listed, run))).to_have_text("stopped")
        assert seen(page) == ["running", "stopping", "stopped"]
        assert not [each for each in offered(page) if "Resume" in each]
        expect(page.locator("stop-receipt")).to_contain_text("enough")
        pages.close()


def test_a_paused_run_that_died_with_its_server_is_not_offered_to_be_resumed(
    browser: Browser, mortal: Server
) -> None:
    with mortal.running():
        run = mortal.start("waiter")
        pages = Pages(browser, mortal)
        page = pages.run(run)
        mortal.http.post(f"/runs/{run}/pause")
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        mortal.kill()
        state(page, "offline")
        expect(page.get_by_role("button", name="Resume")).to_have_count(0)
        expect(page.locator("run-head").get_by_role("button", name="Stop")).to_be_visible()
    with mortal.running():
        expect(chip(page)).to_have_text("lost")
        expect(page.get_by_role("button", name="Resume")).to_have_count(0)
        pages.close()


def test_a_page_that_is_opened_while_nobody_answers_says_so(
    browser: Browser, mortal: Server
) -> None:
    with mortal.running():
        run = mortal.start("waiter")
        pages = Pages(browser, mortal)
        page = pages.window()
        page.route("**/runs?*", lambda route: route.abort())
        page.goto(mortal.url)
        state(page, "offline")
        expect(page.locator("run-list")).to_contain_text("could not be read")
        page.unroute("**/runs?*")
        page.get_by_role("button", name="Try again").click()
        expect(chip(row(page, run))).to_have_text("running")
        pages.close()


def test_nothing_about_runs_is_kept_in_the_browser(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.run(run)
    server.stop(run)
    expect(chip(page)).to_have_text("stopped")
    kept = """async () => [
        Object.keys(localStorage), Object.keys(sessionStorage), document.cookie,
        (await indexedDB.databases()).length, (await caches.keys()).length,
    ]"""
    assert page.evaluate(kept) == [[], [], "", 0, 0]


def test_the_title_of_a_hidden_page_is_right(pages: Pages, server: Server) -> None:
    """Also if it was hidden while a frame was due, which does not come then."""
    run = server.start("waiter")
    page = pages.window()
    page.add_init_script(
        "const draw = requestAnimationFrame; window.held = 0;"
        "window.requestAnimationFrame = (call) => (window.hides ? ++held : draw(call))"
    )
    page.goto(f"{server.url}/dashboard/runs/{run}")
    live(page)
    page.evaluate("window.hides = true")
    server.http.patch(f"/runs/{run}", json={"tags": ["told"]}).raise_for_status()
    page.wait_for_function("held > 0")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    server.stop(run, mode="now")
    expect(page).to_have_title(re.compile("^stopped"))
