"""The page of the schedules: they are added, paused, resumed and deleted, and tell what comes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, live

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def schedules(pages: Pages) -> Page:
    page = pages.window()
    page.goto(f"{pages.server.url}/dashboard/schedules")
    live(page)
    return page


def card(page: Page, schedule: str) -> Locator:
    return page.get_by_role("listitem", name=f"Schedule {schedule}")


def add(server: Server, schedule: str, cron: str = "0 3 1 1 *", **more: Any) -> None:
    order = {"agent": "painter", "cron": cron, "id": schedule, **more}
    server.http.post("/schedules", json=order).raise_for_status()


def shown(server: Server, schedule: str) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get(f"/schedules/{schedule}").raise_for_status().json()
    return found


def test_a_schedule_is_added_with_a_form(pages: Pages, server: Server) -> None:
    page = pages.runs()
    page.get_by_role("link", name="Schedules").click()
    expect(page.locator("schedule-list")).to_contain_text("There are no schedules.")
    page.get_by_role("button", name="Add a schedule").click()
    panel = page.locator("dialog[open]")
    panel.get_by_label("Agent").select_option("writer")
    panel.get_by_label("cron").fill("0 99 * * *")
    panel.get_by_label("id", exact=False).first.fill("nightly")
    panel.get_by_label("pages").fill("7")
    panel.get_by_role("button", name="Schedule").click()
    expect(panel.get_by_label("cron")).to_have_attribute("aria-invalid", "")
    panel.get_by_label("cron").fill("0 3 * * *")
    panel.get_by_label("zone").fill("Europe/Berlin")
    panel.get_by_role("button", name="Schedule").click()
    expect(panel).to_have_count(0)
    expect(card(page, "nightly")).to_contain_text("0 3 * * * Europe/Berlin")
    expect(card(page, "nightly")).to_contain_text(re.compile(r"in \d+ (h|min)"))
    made = shown(server, "nightly")
    assert (made["agent"], made["input"]) == ("writer", {"pages": 7})


def test_it_is_paused_resumed_and_deleted(pages: Pages, server: Server) -> None:
    add(server, "often")
    page = schedules(pages)
    often = card(page, "often")
    often.get_by_role("button", name="Pause").click()
    expect(often.locator(".chip")).to_have_text("paused")
    assert shown(server, "often")["paused"]
    often.get_by_role("button", name="Resume").click()
    expect(often.locator(".chip")).to_have_text(re.compile("^in "))
    assert not shown(server, "often")["paused"]
    often.get_by_role("button", name="Delete").click()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert shown(server, "often")
    often.get_by_role("button", name="Delete").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete").click()
    expect(often).to_have_count(0)
    assert server.http.get("/schedules/often").status_code == 404


def test_what_fires_shows_the_run_that_it_started(pages: Pages, server: Server) -> None:
    add(server, "soon", cron="* * * * * *")
    page = schedules(pages)
    link = card(page, "soon").get_by_role("link")
    expect(link).to_be_visible()
    link.click()
    expect(page.locator("run-head")).to_contain_text("painter")
    server.http.delete("/schedules/soon").raise_for_status()


def test_one_that_somebody_else_deleted_goes_in_silence(pages: Pages, server: Server) -> None:
    add(server, "gone")
    page = schedules(pages)
    server.http.delete("/schedules/gone").raise_for_status()
    card(page, "gone").get_by_role("button", name="Pause").click()
    expect(card(page, "gone")).to_have_count(0)
    expect(page.locator(".toast")).to_have_count(0)


def test_a_button_stays_while_the_time_goes_on(pages: Pages, server: Server) -> None:
    """One that is replaced between the press and its end is not pressed at all."""
    add(server, "soon", cron="* * * * *")
    page = schedules(pages)
    when = card(page, "soon").locator(".chip")
    expect(when).to_have_text(re.compile(r"in \d+ s"))
    page.evaluate("pause = document.getElementById('turn-soon')")
    before = when.text_content()
    expect(when).not_to_have_text(before or "")
    assert page.evaluate("pause.isConnected")
