"""The halt: it is counted before it is asked for, shown while it lasts, and lifted again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.browser.looking import Pages

HALT = {"mode": "graceful", "grace_s": None, "requested_by": "anna"}


class Switch:
    """The other end of ``/halt``, played by the test: only the page is on trial here.

    Attributes:
        asked: what was asked of it, other than how it stands.
    """

    def __init__(self, page: Page, live: int) -> None:
        self.live = live
        self.halt: dict[str, Any] | None = None
        self.asked: list[Any] = []
        page.route("**/halt", self._answer)

    def _answer(self, route: Route) -> None:
        request = route.request
        if request.method == "GET":
            route.fulfill(json={"halt": self.halt, "live": self.live})
            return
        self.asked.append((request.method, request.post_data_json))
        if request.method == "DELETE":
            self.halt = None
            route.fulfill(status=204)
        else:
            given: dict[str, Any] = request.post_data_json or {}
            self.halt = HALT | given | {"requested_at": "2026-11-20T00:00:00Z"}
            route.fulfill(status=202, json={"halt": self.halt, "runs_stopped": 2, "results": []})


def test_a_halt_is_counted_shown_and_lifted(pages: Pages) -> None:
    page = pages.window()
    switch = Switch(page, live=12)
    page.goto(pages.server.url)
    page.get_by_role("button", name="Halt…").click()
    panel = page.locator("dialog[open]")
    expect(panel).to_contain_text("This stops 12 runs, sub-agents included")
    page.keyboard.press("Escape")
    assert switch.asked == []
    page.get_by_role("button", name="Halt…").click()
    page.get_by_label("Reason").fill("maintenance")
    panel.get_by_role("button", name="Halt, and stop 12 runs").click()
    banner = page.locator("#halted")
    expect(banner).to_contain_text("by anna: maintenance. Nothing starts.")
    expect(page.get_by_role("button", name="Halt…")).to_have_count(0)
    banner.get_by_role("button", name="Allow starts again").click()
    expect(banner).to_be_hidden()
    assert switch.asked == [("POST", {"reason": "maintenance"}), ("DELETE", None)]


def test_a_halt_that_somebody_else_lifts_is_not_shown_for_ever(pages: Pages) -> None:
    page = pages.window()
    switch = Switch(page, live=0)
    switch.halt = HALT | {"reason": "", "requested_at": "2026-11-20T00:00:00Z"}
    page.goto(pages.server.url)
    expect(page.locator("#halted")).to_be_visible()
    switch.halt = None
    expect(page.locator("#halted")).to_be_hidden()
