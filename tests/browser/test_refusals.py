"""A button that was pressed has done something, or the page says why it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looking import chip

if TYPE_CHECKING:
    from tests.browser.looking import Pages, Server


@pytest.mark.parametrize("mode", ["now", "kill"])
def test_a_grace_that_is_not_asked_for_keeps_nobody_from_stopping(
    pages: Pages, server: Server, mode: str
) -> None:
    run = server.start("writer")
    page = pages.run(run)
    page.keyboard.press("s")
    page.locator("#grace").fill("-5")
    page.locator(f"input[value={mode}]").check()
    page.locator("dialog[open] [type=submit]").click()
    expect(chip(page)).to_have_text("stopped")
    assert server.get(run)["stop"]["mode"] == mode


def test_a_run_that_is_too_far_to_be_stopped_is_said_to_be(pages: Pages, server: Server) -> None:
    run = server.start("nearly", {"no_stop_after_percent": 50})
    page = pages.run(run)
    expect(page.locator("run-head")).to_contain_text("nearly there")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(page.locator(".toast.error")).to_contain_text("could not be stopped: ")
    expect(chip(page)).to_have_text("running")


def test_a_rerun_whose_key_is_taken_says_so(pages: Pages, server: Server) -> None:
    keyed = {"key": "only-one", "on_conflict": "reject"}
    run = server.start("failing", keyed)
    server.wait(run)
    server.start("waiter", keyed)
    page = pages.run(run)
    page.get_by_role("button", name="Rerun", exact=True).click()
    expect(page.locator(".toast.error")).to_contain_text("could not be started again: ")


def test_the_page_of_a_run_that_somebody_deletes_says_so_when_one_acts(
    pages: Pages, server: Server
) -> None:
    run = server.start("failing")
    server.wait(run)
    page = pages.run(run)
    expect(chip(page)).to_have_text("failed")
    server.http.delete(f"/runs/{run}").raise_for_status()
    page.get_by_role("button", name="Rerun", exact=True).click()
    expect(page.get_by_role("heading", name="There is no such run")).to_be_visible()
