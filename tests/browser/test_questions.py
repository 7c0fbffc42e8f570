"""What a run asks: what a person writes is never lost, and goes to the question it stands under."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, live

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def question(page: Page, says: str) -> Locator:
    return page.get_by_role("region", name="A question to you").filter(has_text=says)


def test_an_answer_that_is_being_written_outlives_what_happens_meanwhile(
    pages: Pages, server: Server
) -> None:
    page = pages.run(server.start("panel"))
    answer = question(page, "Question 2?").get_by_label("Answer")
    answer.fill("half an ans")
    # Another question comes, and one goes.
    question(page, "Another panellist?").get_by_role("button", name="yes").click()
    expect(question(page, "Question 2?")).to_have_count(2)
    expect(question(page, "Question 2?").get_by_label("Answer").first).to_have_value("half an ans")
    # The page is left for a while.
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    live(page)
    expect(question(page, "Question 2?").get_by_label("Answer").first).to_have_value("half an ans")


def test_each_of_two_questions_has_a_field_of_its_own(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("panellist"))
    second = question(page, "Question 2?")
    second.get_by_text("Answer", exact=True).first.click()
    expect(second.get_by_role("textbox")).to_be_focused()


def test_all_questions_that_a_sub_agent_asks_at_once_can_be_answered(
    pages: Pages, server: Server
) -> None:
    page = pages.run(server.start("panel"))
    for number in (1, 2):
        asked = question(page, f"Question {number}?")
        asked.get_by_label("Answer").fill("an answer")
        asked.get_by_role("button", name="Answer").click()
        expect(asked).to_have_count(0)


def test_what_may_be_null_is_left_empty(pages: Pages, server: Server) -> None:
    page = pages.runs("?start=decided")
    page.locator("dialog[open]").get_by_role("button", name="Start").click()
    expect(chip(page)).to_have_text("succeeded")
    expect(page.locator("run-results")).to_contain_text("None.")
