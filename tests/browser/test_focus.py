"""The keyboard keeps its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.looking import Pages, Server


def test_the_focus_rests_on_nothing_when_its_button_goes(pages: Pages, server: Server) -> None:
    run = server.start("waiter")
    page = pages.run(run)
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.locator("run-head .do .do")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Resume")).to_be_focused()
