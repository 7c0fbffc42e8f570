"""What a run has brought: what is shown of it is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.looking import chip, until

if TYPE_CHECKING:
    from playwright.sync_api import Route

    from tests.browser.looking import Pages, Server


def test_files_and_pictures_that_a_stop_throws_away_go_from_the_page(
    pages: Pages, server: Server
) -> None:
    run = server.start("keeper")
    page = pages.run(run)
    expect(page.get_by_role("region", name="Files")).to_contain_text("notes.txt")
    expect(page.get_by_text("Live view")).to_be_visible()
    server.stop(run, mode="now", discard=True)
    expect(chip(page)).to_have_text("stopped")
    expect(page.get_by_role("region", name="Files")).to_be_hidden()
    expect(page.get_by_text("Live view")).to_be_hidden()


def test_files_and_pictures_stay_when_a_run_ends(pages: Pages, server: Server) -> None:
    run = server.start("keeper")
    page = pages.run(run)
    expect(page.get_by_text("Live view")).to_be_visible()
    with page.expect_response(re.compile("/view.seen=.*over")):
        server.stop(run, mode="now")
    expect(chip(page)).to_have_text("stopped")
    expect(page.get_by_text("Live view")).to_be_visible()
    expect(page.get_by_role("region", name="Files")).to_contain_text("notes.txt")


def test_where_a_run_stands_can_be_asked_for_before_the_run_was_read(
    pages: Pages, server: Server
) -> None:
    run = server.start("keeper")
    page = pages.window(caught=True)
    held: list[Route] = []
    page.route(f"{server.url}/runs/{run}", lambda route: held.append(route))
    page.goto(f"{server.url}/dashboard/runs/{run}")
    until(page, lambda: held)
    stack = page.locator("run-stack")
    stack.get_by_text("What is it waiting for?").click()
    # Whatever comes of the click comes before this.
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert stack.locator(".stacks").text_content() == ""
    page.unroute(f"{server.url}/runs/{run}")
    held[0].continue_()
    expect(stack).to_contain_text("agents.py")
