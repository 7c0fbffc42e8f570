"""The list of runs: live, filtered, paged, and of any length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import trio
from playwright.sync_api import FilePayload, expect

from orchestrator import RunId, RunRecord, RunStatus
from orchestrator.model import Progress, RunOptions
from orchestrator.store import open_store
from orchestrator.store.writes import SaveRun
from tests.browser.looking import Pages, Server, chip, live, row, until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

MANY = 5_000


def shown(page: Page) -> list[str]:
    """Return the ids of the runs in the document, from top to bottom."""
    # Rows that are used again stand where they were in the document until the list is at rest.
    found: list[str] = page.locator(".rows .row .to").evaluate_all(
        """(links) => links.map((link) => [link.getBoundingClientRect().top, link.href])
            .sort(([one], [other]) => one - other).map(([, href]) => href.split('/').pop())"""
    )
    return found


def test_runs_come_and_change_while_one_looks(pages: Pages, server: Server) -> None:
    page = pages.runs()
    run = server.start("writer", {"tags": ["weekly"]}, pages=4, seconds=0.4)
    expect(chip(row(page, run))).to_have_text("running")
    expect(row(page, run)).to_contain_text("of 4 pages")
    expect(chip(row(page, run))).to_have_text("succeeded")
    assert shown(page)[0] == run
    row(page, run).get_by_role("link", name="weekly").click()
    expect(page).to_have_url(re.compile("tag=weekly"))
    live(page)
    assert shown(page) == [run]


def test_a_run_that_could_not_be_read_when_it_came_comes_later(
    pages: Pages, server: Server
) -> None:
    page = pages.runs(caught=True)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503)

    page.route("**/runs/run_*", refuse)
    run = server.start("waiter")
    until(page, lambda: refused)
    page.unroute("**/runs/run_*")
    expect(chip(row(page, run))).to_have_text("running")


def test_new_runs_wait_while_somebody_reads_further_down(pages: Pages, server: Server) -> None:
    for _ in range(30):
        server.start("failing")
    page = pages.runs()
    page.mouse.wheel(0, 1000)
    page.wait_for_function("scrollY > 300")
    before = shown(page)
    run = server.start("waiter")
    fresh = page.locator(".fresh")
    expect(fresh).to_contain_text("1 new")
    assert shown(page) == before
    fresh.click()
    expect(chip(row(page, run))).to_have_text("running")
    expect(fresh).to_be_hidden()


def test_filters_stand_in_the_address(pages: Pages, server: Server) -> None:
    wanted = server.start("talker", {"tags": ["blue"]}, lines=1, seconds=1000)
    server.start("failing", {"tags": ["blue"]})
    page = pages.runs()
    page.get_by_label("Status").select_option(label="running")
    page.get_by_label("Agent", exact=True).select_option("talker")
    page.get_by_label("Tag", exact=True).fill("blue")
    expect(page).to_have_url(re.compile(r"status=running.*agent=talker.*tag=blue"))
    expect(page.locator(".rows .row")).to_have_count(1)
    assert shown(page) == [wanted]
    page.reload()
    live(page)
    assert shown(page) == [wanted]
    assert page.get_by_label("Tag", exact=True).input_value() == "blue"
    page.go_back()
    expect(page.get_by_label("Agent", exact=True)).to_have_value("")
    page.get_by_role("link", name="Clear").click()
    expect(page).to_have_url(f"{server.url}/")


def test_a_search_looks_for_words(pages: Pages, server: Server) -> None:
    run = server.start("waiter", {"tags": ["unusual"]})
    page = pages.runs()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type(f"waiter UNUSUAL {run[4:9]}")
    expect(page.locator(".rows .row")).to_have_count(1)
    assert shown(page) == [run]
    page.locator("#search").fill("no such thing")
    expect(page.locator("run-list")).to_contain_text("No run is like that.")


def test_sub_agents_are_shown_when_they_are_asked_for(pages: Pages, server: Server) -> None:
    root = server.start("household", {"tags": ["tree"]}, children=2)
    page = pages.runs()
    expect(chip(row(page, root))).to_have_text("running")
    assert len(shown(page)) == len(set(shown(page)))
    page.get_by_label("sub-agents too").check()
    page.locator("#search").fill("waiter")
    children = [child["id"] for child in server.http.get(f"/runs/{root}/tree").json()["children"]]
    for child in children:
        expect(chip(row(page, child))).to_have_text("running")


def test_the_numbers_lead_to_the_runs_behind_them(pages: Pages, server: Server) -> None:
    asker = server.start("asker")
    page = pages.runs()
    asking = page.locator("run-summary .asking")
    expect(asking).to_contain_text("1 asks you")
    asking.click()
    live(page)
    assert shown(page) == [asker]
    expect(row(page, asker)).to_contain_text("asks: Publish it?")
    server.stop(asker)
    expect(page.locator("run-summary .asking")).to_be_hidden()


def test_a_rerun_is_a_click_away(pages: Pages, server: Server) -> None:
    run = server.start("failing")
    page = pages.runs()
    row(page, run).get_by_role("button", name="Rerun").click()
    page.wait_for_url(re.compile("/dashboard/runs/run_"))
    assert run not in page.url
    expect(page.locator("run-facts")).to_contain_text("A rerun of")
    expect(page.locator("run-facts").get_by_role("link", name=run[4:12])).to_be_visible()


def test_a_run_is_started_with_a_form_of_its_schema(pages: Pages, server: Server) -> None:
    page = pages.runs()
    page.get_by_role("button", name="Start a run").click()
    panel = page.locator("dialog[open]")
    panel.get_by_label("Agent").select_option("writer")
    expect(panel).to_contain_text("Write pages, each in one call of a model.")
    panel.get_by_label("pages").fill("2.5")
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_label("pages")).to_have_attribute("aria-invalid", "")
    panel.get_by_label("pages").fill("7")
    panel.get_by_label("topic").fill("hats")
    panel.get_by_text("Options", exact=True).click()
    panel.get_by_label("tags").fill("one\ntwo")
    panel.get_by_label("deadline_s").fill("-1")
    panel.get_by_role("button", name="Start").click()
    expect(panel.get_by_label("deadline_s")).to_have_attribute("aria-invalid", "")
    panel.get_by_label("deadline_s").fill("300")
    panel.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile("/dashboard/runs/run_"))
    run = server.get(page.url.rpartition("/")[2])
    assert run["input"] == {"pages": 7, "topic": "hats"}
    assert (run["tags"], run["options"]["deadline_s"]) == (["one", "two"], 300)
    expect(page.locator("run-head")).to_contain_text(re.compile(r"in \d min"))


def test_what_the_server_refuses_is_shown_at_its_field(pages: Pages, server: Server) -> None:
    page = pages.runs("?start=household")
    panel = page.locator("dialog[open]")
    panel.get_by_text("Options", exact=True).click()
    panel.get_by_label("grace_s").fill("99999999")
    panel.get_by_role("button", name="Start").click()
    expect(panel.locator(".field", has_text="grace_s")).to_contain_text("less than or equal to")


def test_a_form_that_a_link_opens_is_opened_once(pages: Pages) -> None:
    """A page that asked twice who is there drew it again, over what had been filled in."""
    page = pages.window()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(f"{pages.server.url}/?start=reader")
    live(page)
    expect(page.locator("dialog[open]")).to_be_visible()
    assert asked.count("session") == 1


def test_a_run_is_started_with_files(pages: Pages, server: Server) -> None:
    page = pages.runs("?start=reader")
    panel = page.locator("dialog[open]")
    panel.get_by_label("Files").set_input_files(
        [
            FilePayload(name="a.txt", mimeType="text/plain", buffer=b"one"),
            FilePayload(name="b.txt", mimeType="text/plain", buffer="zwölf".encode()),
        ]
    )
    panel.get_by_label("names").fill("a.txt\nb.txt")
    panel.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile("/dashboard/runs/run_"))
    expect(chip(page)).to_have_text("succeeded")
    run = server.get(page.url.rpartition("/")[2])
    assert run["result"] == {"a.txt": "one", "b.txt": "zwölf"}


def test_an_empty_server_is_quiet(browser: Browser, tmp_path: Path) -> None:
    with Server(tmp_path).running() as server:
        pages = Pages(browser, server)
        page = pages.runs()
        expect(page.locator("run-list")).to_contain_text("There are no runs yet.")
        expect(page.get_by_role("button", name="Stop all")).to_be_disabled()
        run = server.start("waiter")
        expect(chip(row(page, run))).to_have_text("running")
        expect(page.get_by_role("button", name="Stop all")).to_be_enabled()
        pages.close()


async def fill(folder: Path) -> None:
    """Store many runs, as if they had been."""
    async with open_store(f"sqlite:///{folder}/runs.db") as store:
        for start in range(0, MANY, 500):
            await store.write([SaveRun(record(n)) for n in range(start, start + 500)])


def record(number: int) -> RunRecord:
    run_id = RunId(f"run_{number:020x}")
    at = f"2026-11-20T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
    return RunRecord(
        id=run_id,
        root_id=run_id,
        agent="writer",
        status=RunStatus.SUCCEEDED,
        created_at=at,
        started_at=at,
        ended_at=at,
        owner="ann",
        options=RunOptions(tags=("odd",) if number % 2 else ()),
        progress=Progress(percent=100, message=f"{number} pages"),
    )


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowded")
    trio.run(fill, folder)
    return folder


def test_five_thousand_runs(browser: Browser, crowded: Path) -> None:
    """All of them can be reached, and no more are drawn than can be seen."""
    with Server(crowded).running() as server:
        pages = Pages(browser, server)
        page = pages.runs()
        height, most = 0, 0
        while "that is all" not in str(page.locator(".foot").text_content()):
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.wait_for_function(
                "(before) => document.body.scrollHeight > before || "
                "document.querySelector('.foot').textContent.includes('all')",
                arg=height,
            )
            height = page.evaluate("document.body.scrollHeight")
            most = max(most, page.locator(".rows .row").count())
        expect(page.locator(".foot")).to_contain_text("5,000 runs, and that is all")
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(row(page, record(0).id)).to_be_visible()
        assert most < 60
        # Rows are used again while one scrolls; at rest they are read in their order.
        page.evaluate("scrollTo(0, scrollY - 700)")
        page.wait_for_function("""() => {
            const at = [...document.querySelectorAll('.rows .row')].map((row) => row.ariaRowIndex);
            return at.length > 20 && at.every((n, i) => i === 0 || Number(n) > Number(at[i - 1]));
        }""")
        run = server.start("waiter")
        page.evaluate("scrollTo(0, 0)")
        expect(chip(row(page, run))).to_have_text("running")
        page.locator("#search").fill("4321 pages")
        expect(page.locator(".rows .row")).to_have_count(1)
        assert shown(page) == [record(4321).id]
        pages.close()
