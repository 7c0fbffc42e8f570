"""The page of one run: what can be seen of it, and done with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def test_a_run_is_told_from_its_beginning_to_its_result(pages: Pages, server: Server) -> None:
    run = server.start("painter", {"tags": ["nightly"]})
    page = pages.run(run)
    expect(page).to_have_title("succeeded · painter · Quiesce")
    expect(page.locator("connection-state")).to_have_text("Complete")
    expect(page.locator("run-head")).to_contain_text("nightly")
    expect(page.locator("#results")).to_contain_text('"a"')
    expect(page.get_by_role("link", name="notes.txt")).to_have_attribute(
        "href", f"/runs/{run}/artifacts/notes.txt"
    )
    picture = page.locator(".view img")
    expect(picture).to_be_visible()
    page.wait_for_function("() => document.querySelector('.view img').naturalWidth === 1")
    expect(page.locator(".line")).to_have_count(
        len(
            server.http.get(f"/runs/{run}/events", headers={"Accept": "application/json"}).json()[
                "events"
            ]
        )
    )


def test_E7_the_page_of_a_run_shows_live_what_its_sub_agent_sees(
    pages: Pages, server: Server
) -> None:
    """As the page of an execution shows the browser of its playbook."""
    run = server.start("studio")
    page = pages.run(run)
    expect(page.locator(".view img")).to_be_visible()
    page.wait_for_function("() => document.querySelector('.view img').naturalWidth > 3")
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("stopped")
    expect(page.locator(".view img")).to_be_visible()
    (child,) = server.http.get(f"/runs/{run}/tree").json()["children"]
    shown = page.locator(".view img").get_attribute("src")
    assert shown is not None
    assert shown.startswith(f"/runs/{child['id']}/view?seen=")


def test_pause_resume_and_step(pages: Pages, server: Server) -> None:
    run = server.start("writer", seconds=0.3)
    page = pages.run(run)
    head = page.locator("run-head")
    head.get_by_role("button", name="Pause").click()
    expect(chip(page)).to_have_text("paused")
    before = server.get(run)["progress"]["percent"]
    head.get_by_role("button", name="Step").click()
    expect(page.locator("run-log")).to_contain_text("one step")
    expect(chip(page)).to_have_text("paused")
    head.get_by_role("button", name="Resume").click()
    expect(chip(page)).to_have_text("running")
    expect(head.get_by_role("button", name="Resume")).to_have_count(0)
    assert server.get(run)["progress"]["percent"] >= before


def test_a_choice_is_answered_with_a_click(pages: Pages, server: Server) -> None:
    run = server.start("asker")
    page = pages.run(run)
    card = page.locator(".question")
    expect(card).to_contain_text("Publish it?")
    card.get_by_role("button", name="yes").click()
    expect(chip(page)).to_have_text("succeeded")
    expect(card).to_have_count(0)
    assert server.get(run)["result"] == "yes"


def test_an_answer_that_does_not_fit_is_refused_and_can_be_mended(
    pages: Pages, server: Server
) -> None:
    run = server.start("counter")
    page = pages.run(run)
    card = page.locator(".question")
    card.get_by_label("Answer").fill("1.5")
    card.get_by_role("button", name="Answer").click()
    expect(card.get_by_label("Answer")).to_have_attribute("aria-invalid", "")
    card.get_by_label("Answer").fill("3")
    card.get_by_role("button", name="Answer").click()
    expect(chip(page)).to_have_text("succeeded")
    assert server.get(run)["result"] == 3


def test_a_question_of_a_stopped_run_is_gone(pages: Pages, server: Server) -> None:
    run = server.start("asker")
    page = pages.run(run)
    expect(page.locator(".question")).to_be_visible()
    server.stop(run)
    expect(chip(page)).to_have_text("stopped")
    expect(page.locator(".question")).to_have_count(0)


def test_a_run_is_repeated_from_a_step(pages: Pages, server: Server) -> None:
    run = server.start("painter")
    page = pages.run(run)
    page.get_by_label("Rerun, and reuse").select_option("last")
    page.wait_for_url(lambda url: run not in url)
    expect(page.locator("run-log")).to_contain_text("step paint, reused")
    expect(page.locator("run-facts")).to_contain_text("A rerun of")


def test_the_log_is_sifted_by_the_address(pages: Pages, server: Server) -> None:
    run = server.start("household", children=2)
    page = pages.run(run)
    page.get_by_label("Find in the log").fill("waiting, see")
    expect(page.locator(".line")).to_have_count(2)
    expect(page).to_have_url(re.compile("find=waiting"))
    page.locator(".branch").nth(1).click()
    expect(page.locator(".line")).to_have_count(1)
    page.reload()
    expect(page.locator(".line")).to_have_count(1)
    page.get_by_label("Show the log of all runs").click()
    expect(page.locator(".line")).to_have_count(2)
    page.get_by_label("Find in the log").fill("")
    page.locator("run-log summary").first.click()
    page.get_by_label("Lifecycle").uncheck()
    expect(page.locator(".line[data-family=life]")).to_have_count(0)
    expect(page.locator(".line[data-family=log]")).to_have_count(2)
    assert "log=" in page.url


def test_a_line_of_the_log_has_an_address(pages: Pages, server: Server) -> None:
    run = server.start("talker", lines=400)
    assert server.wait(run) == "succeeded"
    page = pages.run(run, "?event=123")
    line = page.locator('.line[aria-selected="true"]')
    expect(line).to_be_in_viewport()
    expect(line).to_contain_text("line 120")
    expect(page.locator(".detail")).to_contain_text("#123")
    page.locator(".log").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".detail")).to_contain_text("#124")
    expect(page).to_have_url(re.compile("event=124"))


def test_addresses_in_the_log_are_links(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("waiter"))
    page.locator(".line", has_text="waiting, see").click()
    link = page.locator(".detail").get_by_role("link", name="https://example.org/help")
    expect(link).to_have_attribute("rel", "noopener noreferrer")


def at_end(page: Page) -> bool:
    left: float = page.locator(".log").evaluate(
        "(box) => box.scrollHeight - box.scrollTop - box.clientHeight"
    )
    return left < 4


def test_the_log_follows_only_while_one_looks_at_its_end(pages: Pages, server: Server) -> None:
    run = server.start("writer", pages=1000, seconds=0.02)
    page = pages.run(run)
    follow = page.get_by_role("button", name="Following")
    expect(follow).to_be_visible()
    page.wait_for_function("() => document.querySelector('.log').scrollTop > 500")
    page.locator(".log").hover()
    page.mouse.wheel(0, -300)
    fresh = page.get_by_role("button", name=re.compile(r"\d+ new"))
    expect(fresh).to_be_visible()
    top = page.locator(".log").evaluate("(box) => box.scrollTop")
    expect(fresh).to_have_text(re.compile(r"\d{2,} new"))
    assert page.locator(".log").evaluate("(box) => box.scrollTop") == top
    fresh.click()
    expect(follow).to_be_visible()
    server.stop(run, mode="now")
    expect(chip(page)).to_have_text("stopped")
    page.wait_for_function("""() => {
        const box = document.querySelector('.log');
        return box.scrollHeight - box.scrollTop - box.clientHeight < 4;
    }""")


def test_a_long_log_is_drawn_in_part_and_its_end_is_near(pages: Pages, server: Server) -> None:
    run = server.start("talker", lines=5000)
    assert server.wait(run) == "succeeded"
    page = pages.run(run)
    expect(page.locator(".line").last).to_contain_text("succeeded")
    assert at_end(page)
    assert page.locator(".line").count() < 80
    page.locator(".log").evaluate("(box) => (box.scrollTop = 0)")
    expect(page.locator(".line").first).to_contain_text("talker is queued")
    page.get_by_role("button", name="To the end").click()
    expect(page.locator(".line").last).to_contain_text("succeeded")


def test_a_tree_of_a_thousand_is_drawn_in_part(pages: Pages, server: Server) -> None:
    run = server.start("household", children=1000)
    page = pages.run(run)
    expect(page.locator("run-timeline h2")).to_have_text("Timeline of 1,001 runs")
    assert page.locator(".branch").count() < 80
    page.locator(".tree").evaluate("(box) => (box.scrollTop = box.scrollHeight)")
    expect(page.locator(".branch").last).to_have_attribute("aria-rowindex", "1002")
    server.stop(run)
    expect(chip(page)).to_have_text("stopped")
    expect(page.locator(".branch[data-status=running]")).to_have_count(0)
    page.get_by_label("Which runs of the tree").select_option("live")
    expect(page.locator(".branch")).to_have_count(0)


def test_the_timeline_draws_what_a_stop_did_where_it_did_it(pages: Pages, server: Server) -> None:
    run = server.start("family", children=2, seconds=1000)
    page = pages.run(run)
    expect(page.locator(".branch .tick.open")).to_have_count(2)
    server.stop(run, grace_s=0.5)
    expect(chip(page)).to_have_text("stopped")
    for part in ("rect.asked", ".span.stopping", ".rung", ".tick.cut", ".close.stopped"):
        expect(page.locator(f".branch {part}").first).to_be_attached()
    expect(page.locator(".branch .span.running")).to_have_count(0)
    # Both in one look: every change draws them anew, and what was replaced stands nowhere.
    place = "(branch) => ['path.asked', '.close'].map((m) => branch.querySelector(m).getBBox().x)"
    asked, closed = page.locator(".branch").first.evaluate(place)
    assert 0 < asked < closed


def test_the_timeline_is_walked_through_with_the_arrows(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("household", children=3))
    branches = page.locator(".branch")
    expect(branches).to_have_count(4)
    branches.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(branches.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(branches.nth(2)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_contain_text("Stop waiter")
    page.keyboard.press("Escape")
    branches.first.focus()
    page.keyboard.press("ArrowLeft")
    expect(branches).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(branches).to_have_count(4)


def test_one_can_look_closer_at_a_stretch_of_time(pages: Pages, server: Server) -> None:
    run = server.start("writer", pages=3, seconds=0.3)
    assert server.wait(run) == "succeeded"
    page = pages.run(run)
    page.get_by_label("Closer").click()
    expect(page).to_have_url(re.compile(r"from=[\d.]+&to=[\d.]+"))
    page.reload()
    page.get_by_role("button", name="Fit").click()
    expect(page).not_to_have_url(re.compile("from="))


def test_it_says_what_it_waits_for(pages: Pages, server: Server) -> None:
    page = pages.run(server.start("writer"))
    page.get_by_text("What is it waiting for?").click()
    stacks = page.locator(".stacks")
    expect(stacks).to_contain_text("writer is in llm page 0, at agents.py:")
    stacks.get_by_text("frames").click()
    expect(stacks.locator("ol")).to_contain_text("writer")


def test_a_sub_agent_has_a_page_that_leads_upwards(pages: Pages, server: Server) -> None:
    root = server.start("household", children=1)
    page = pages.run(root)
    page.locator(".branch").nth(1).get_by_role("link", name="waiter").click()
    expect(page.locator("run-head h1")).to_have_text("waiter")
    expect(page.locator("run-facts")).to_contain_text("A sub-agent of")
    page.locator("run-facts").get_by_role("link", name=root[4:12]).click()
    expect(page.locator("run-head h1")).to_have_text("household")


@pytest.mark.parametrize("name", ["run_nope", "%22%3E%3Cscript%3Ealert(1)"])
def test_a_run_that_is_not_there(pages: Pages, server: Server, name: str) -> None:
    page = pages.window()
    page.goto(f"{server.url}/dashboard/runs/{name}")
    expect(page.get_by_role("heading", name="There is no such run")).to_be_visible()
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_text_is_never_taken_for_markup(pages: Pages, server: Server) -> None:
    evil = "<img src=x onerror=\"document.title='taken over'\">"
    run = server.start("asker", {"tags": [evil]}, question=evil)
    page = pages.run(run, f"?find={evil}")
    expect(page.locator(".question h2")).to_have_text(evil)
    assert page.title() == "running · asker · Quiesce"
    assert page.locator("img[onerror]").count() == 0


def test_a_slow_server_is_asked_once_at_a_time_where_a_run_stands(
    pages: Pages, server: Server
) -> None:
    page = pages.run(server.start("waiter"), caught=True)
    held: list[Route] = []
    page.route("**/stack", lambda route: held.append(route))
    box = page.locator("run-stack details").first
    page.locator("run-stack summary").first.press("Enter")
    box.evaluate("(box) => { for (let n = 0; n < 5; n++) box.dispatchEvent(new Event('toggle')); }")
    until(page, lambda: held)
    assert len(held) == 1
    held[0].continue_()
    page.unroute("**/stack")
    expect(page.locator(".stack").first).to_contain_text("waiter")


def test_a_run_that_has_ended_is_deleted_once_that_is_meant(pages: Pages, server: Server) -> None:
    run, live = server.start("painter", {"retention_s": 7200}), server.start("waiter")
    page = pages.run(run)
    expect(chip(page)).to_have_text("succeeded")
    expect(page.locator("run-head .facts")).to_contain_text(re.compile("Kept.*until"))
    page.get_by_role("button", name="Delete").click()
    page.keyboard.press("Escape")
    assert server.get(run)["status"] == "succeeded"
    page.get_by_role("button", name="Delete").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete").click()
    page.wait_for_url(f"{server.url}/")
    assert server.http.get(f"/runs/{run}").status_code == 404
    other = pages.run(live)
    expect(other.get_by_role("button", name="Pause")).to_be_visible()
    expect(other.get_by_role("button", name="Delete")).to_have_count(0)


def test_the_latest_partial_result_is_shown(pages: Pages, server: Server) -> None:
    """Also when it is as long as the one before."""
    run = server.start("drafter")
    page = pages.run(run)
    for draft in range(1, 4):
        expect(page.locator("#results")).to_contain_text(f'"draft": {draft}')
        question = page.locator(".question")
        question.get_by_role("button", name="again").click()
        expect(question).to_contain_text(f"Draft {draft + 1}?")


def test_files_that_could_not_be_read_are_read_again(pages: Pages, server: Server) -> None:
    run = server.start("painter")
    assert server.wait(run) == "succeeded"
    page = pages.window(caught=True)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    page.route("**/artifacts", refuse)
    page.goto(f"{server.url}/dashboard/runs/{run}")
    until(page, lambda: refused)
    page.unroute("**/artifacts")
    expect(page.get_by_role("region", name="Files")).to_contain_text("notes.txt")
