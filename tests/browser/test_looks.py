"""Every state of the pages, small and large, light and dark: for everybody to read and to use.

axe looks for what keeps people out (WCAG 2.2 A and AA), and nothing may stick out to the side. With
``QUIESCE_PICTURES`` a picture of each is kept in that folder.
"""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, live, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast"]
HEIGHTS = {390: 844, 1280: 900, 2560: 1300}
PICTURES = Path(os.environ["QUIESCE_PICTURES"]) if "QUIESCE_PICTURES" in os.environ else None


def a_crowd(server: Server) -> None:
    """Let there be runs in many states."""
    server.start("writer", {"tags": ["weekly", "books"], "deadline_s": 3000}, pages=9, seconds=0.1)
    server.start("failing")
    server.start("painter")
    server.stop(server.start("waiter"), mode="now", reason="wrong topic")
    server.http.post(f"/runs/{server.start('waiter')}/pause")
    server.start("asker")
    server.start("writer", {"tags": ["weekly"]}, pages=20, seconds=0.3)
    server.stop(server.start("writer"), grace_s=600, reason="enough")


def the_list(pages: Pages, server: Server, **window: Any) -> Page:
    a_crowd(server)
    page = pages.runs(**window)
    expect(page.locator("run-list .chip.stopping").first).to_be_visible()
    return page


def an_empty_list(pages: Pages, server: Server, **window: Any) -> Page:
    return pages.runs("?tag=nobody", **window)


def a_list_that_loads(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.window(**window)
    page.route("**/runs?*", lambda route: None)
    page.goto(server.url)
    expect(page.locator(".bone").first).to_be_visible()
    return page


def a_list_that_failed(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.window(**window)
    page.route("**/runs?*", lambda route: route.abort())
    page.goto(server.url)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    return page


def a_selection(pages: Pages, server: Server, **window: Any) -> Page:
    run = server.start("waiter")
    page = pages.runs(**window)
    row(page, run).get_by_role("checkbox").check()
    expect(page.locator(".bulk").last).to_be_visible()
    return page


def a_start(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.runs("?start=writer", **window)
    page.locator("dialog[open]").get_by_text("Options", exact=True).click()
    return page


def the_schedules(pages: Pages, server: Server, **window: Any) -> Page:
    for name, cron in [("nightly", "0 3 * * 1-5"), ("yearly", "0 0 1 1 *")]:
        order = {"agent": "writer", "cron": cron, "id": name, "zone": "Europe/Berlin"}
        server.http.post("/schedules", json=order)
    server.http.post("/schedules/yearly/pause").raise_for_status()
    page = pages.window(**window)
    page.goto(f"{server.url}/dashboard/schedules")
    expect(page.get_by_role("button", name="Resume yearly")).to_be_visible()
    return page


def a_deletion(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.run(server.start("painter", {"retention_s": 7200}), **window)
    page.get_by_role("button", name="Delete").click()
    return page


def settings(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.runs(**window)
    page.get_by_label("Settings").click()
    return page


def a_run(pages: Pages, server: Server, **window: Any) -> Page:
    run = server.start("family", {"tags": ["weekly"], "deadline_s": 3000}, children=5, seconds=9)
    page = pages.run(run, **window)
    expect(page.locator(".branch")).to_have_count(6)
    page.locator(".line", has_text="its code begins").first.click()
    expect(page.locator(".detail")).to_be_visible()
    return page


def a_panel(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.run(server.start("family"), **window)
    expect(page.locator(".branch")).to_have_count(4)
    page.keyboard.press("s")
    return page


def a_stopping_run(pages: Pages, server: Server, **window: Any) -> Page:
    run = server.start("family")
    page = pages.run(run, **window)
    server.stop(run, grace_s=600, reason="wrong topic")
    expect(page.locator(".strip")).to_contain_text("left")
    return page


def a_stopped_run(pages: Pages, server: Server, **window: Any) -> Page:
    run = server.start("family", children=4)
    page = pages.run(run, **window)
    expect(page.locator(".branch")).to_have_count(5)
    server.stop(run, grace_s=0.5, reason="wrong topic")
    expect(chip(page)).to_have_text("stopped")
    return page


def an_abandoned_run(pages: Pages, server: Server, **window: Any) -> Page:
    run = server.start("stubborn", {"cleanup_s": 0.2})
    page = pages.run(run, **window)
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("abandoned")
    return page


def a_failed_run(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.run(server.start("failing"), **window)
    expect(chip(page)).to_have_text("failed")
    return page


def a_result(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.run(server.start("painter"), **window)
    expect(page.locator(".view img")).to_be_visible()
    return page


def a_question(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.run(server.start("counter"), **window)
    expect(page.locator(".question")).to_be_visible()
    # With a key: what comes into the page above it moves it from under the mouse.
    page.locator("run-stack summary").first.press("Enter")
    expect(page.locator(".stack")).to_be_visible()
    return page


def a_refused_stop(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.run(server.start("waiter"), caught=True, **window)
    page.route("**/stop", lambda route: route.abort())
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(page.locator(".toast.error")).to_be_visible()
    return page


def a_lost_connection(pages: Pages, server: Server, **window: Any) -> Page:
    a_crowd(server)
    page = pages.runs(caught=True, **window)
    page.route("**/*", lambda route: route.abort())
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    expect(page.locator("html")).to_have_attribute("data-connection", "offline")
    return page


def a_run_that_is_not_there(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.window(**window)
    page.goto(f"{server.url}/dashboard/runs/run_nope")
    expect(page.get_by_role("heading", name="no such run")).to_be_visible()
    return page


def a_login(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.window(**window)
    page.goto(f"{server.url}/dashboard/login")
    return page


def the_interface(pages: Pages, server: Server, **window: Any) -> Page:
    page = pages.window(**window)
    page.goto(f"{server.url}/docs")
    return page


STATES: list[Callable[..., Page]] = [
    *(the_list, an_empty_list, a_list_that_loads, a_list_that_failed, a_selection, a_start),
    *(
        settings,
        the_schedules,
        a_deletion,
        a_run,
        a_panel,
        a_stopping_run,
        a_stopped_run,
        an_abandoned_run,
        a_failed_run,
    ),
    *(a_result, a_question, a_refused_stop, a_lost_connection, a_run_that_is_not_there, a_login),
    the_interface,
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_everybody_can_read_and_use_it(
    pages: Pages, server: Server, state: Callable[..., Page]
) -> None:
    page = state(pages, server, reduced_motion="reduce")
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            if PICTURES is not None:
                page.screenshot(path=PICTURES / f"{state.__name__}-{width}-{theme}.png")
            # What is read at the largest size is read at a lesser one as well, and by night nothing
            # is other than the colours.
            rules = RULES if theme == "light" else COLOURS
            assert width == max(HEIGHTS) or problems(page, rules) == [], (width, theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def problems(page: Page, rules: list[str]) -> list[str]:
    """Return what axe finds, in words."""
    page.evaluate(f"window.axe ?? (() => {{ {AXE} }})()")
    found = page.evaluate(
        "(rules) => axe.run({ runOnly: rules, resultTypes: ['violations'] })", rules
    )
    return [
        f"{each['id']}: {node['html']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("width", [760, 800, 940, 1160])
def test_every_stop_can_be_reached_at_every_width(pages: Pages, server: Server, width: int) -> None:
    live, stopping = server.start("waiter"), server.start("writer")
    server.stop(stopping, grace_s=600)
    page = pages.runs(viewport={"width": width, "height": 850})
    for run, name in [(live, "Stop waiter"), (stopping, "Stop writer")]:
        expect(row(page, run).get_by_role("button", name=name)).to_be_in_viewport(ratio=1)


def test_a_stop_is_told_to_those_who_do_not_see_it(pages: Pages, server: Server) -> None:
    run = server.start("writer", seconds=1)
    page = pages.run(run)
    voice = page.locator("#voice")
    expect(voice).to_have_attribute("aria-live", "polite")
    page.evaluate("""() => {
        window.said = [];
        const voice = document.querySelector('#voice');
        new MutationObserver(() => said.push(voice.textContent)).observe(
            voice, {childList: true, characterData: true, subtree: true});
    }""")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(chip(page)).to_have_text("stopped")
    expect(voice).to_have_text("writer is stopped")
    assert page.evaluate("said") == [
        f"Stopping writer {run}",
        "writer is stopping",
        "writer is stopped",
    ]


def test_nothing_moves_for_those_who_want_that(pages: Pages, server: Server) -> None:
    run = server.start("writer")
    page = pages.run(run, reduced_motion="reduce")
    server.stop(run, grace_s=600)
    spinner = page.locator("status-chip .icon-stopping")
    expect(spinner).to_be_visible()
    assert spinner.evaluate("(icon) => getComputedStyle(icon).animationName") == "none"


def test_light_and_dark_can_be_chosen_and_stay(pages: Pages, server: Server) -> None:
    page = pages.runs(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_label("Settings").click()
    page.get_by_label("Appearance").select_option("dark")
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    live(page)
    assert page.evaluate(background) == dark
    page.get_by_label("Settings").click()
    page.get_by_label("Appearance").select_option("")
    assert page.evaluate(background) == light


def test_the_focus_is_never_lost(pages: Pages, server: Server) -> None:
    run = server.start("writer", seconds=1)
    page = pages.run(run)
    button = page.locator("run-head").get_by_role("button", name=re.compile("^Stop$"))
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.locator("dialog").get_by_role("button", name=re.compile("^Stop$")).press("Enter")
    expect(chip(page)).to_have_text("stopped")
    assert page.evaluate("document.activeElement !== document.body")
