"""The log of one run of a tree, and what is below that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.looking import live

if TYPE_CHECKING:
    from tests.browser.looking import Pages, Server


def test_the_log_of_a_run_has_what_is_below_it_after_a_reload_too(
    pages: Pages, server: Server
) -> None:
    run = server.start("household", children=2)
    page = pages.run(run)
    log = page.locator("run-log")
    expect(log.locator(".line[data-type='run.log']")).to_have_count(2)
    page.goto(f"{server.url}/dashboard/runs/{run}?node={run}")
    live(page)
    expect(log.get_by_label("Show the log of all runs of the tree")).to_contain_text("household")
    expect(log.locator(".line[data-type='run.log']")).to_have_count(2)


def test_the_log_of_a_run_goes_on_with_what_comes_below_it(pages: Pages, server: Server) -> None:
    run = server.start("panel")
    page = pages.run(run)
    page.locator("run-timeline .branch").first.click()
    asked = page.locator("run-log .line[data-type='run.asked']")
    expect(asked).to_have_count(3)
    page.get_by_role("button", name="yes").click()
    expect(asked).to_have_count(5)
