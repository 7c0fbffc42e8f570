"""Tokens in the browser: one logs in for a cookie, and sees only what one may do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Pages, Server, chip, live, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROLES = {"vera": "viewer", "olga": "operator", "otto": "operator", "anna": "admin"}
TOKENS = {name: f"{name}-has-a-long-token-of-her-own-{name}" for name in ROLES}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with tokens, and a client that is olga."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens.toml"
    tokens.write_text(
        "".join(
            f'[[token]]\ntoken = "{TOKENS[name]}"\nprincipal = "{name}"\nrole = "{role}"\n'
            for name, role in ROLES.items()
        )
    )
    tokens.chmod(0o600)
    with Server(folder, "--tokens", str(tokens)).running() as server:
        server.http.headers["Authorization"] = f"Bearer {TOKENS['olga']}"
        yield server


@pytest.fixture
def doors(browser: Browser, guarded: Server) -> Iterator[Pages]:
    opened = Pages(browser, guarded)
    yield opened
    opened.close()


def log_in(page: Page, name: str) -> None:
    page.get_by_label("Token").fill(TOKENS[name])
    page.get_by_role("button", name="Log in").click()


def enter(doors: Pages, name: str, path: str = "/") -> Page:
    """Open a page as somebody."""
    page = doors.window()
    page.goto(doors.server.url + path)
    log_in(page, name)
    live(page)
    return page


def test_one_comes_back_to_where_one_wanted_to_go(doors: Pages, guarded: Server) -> None:
    run = guarded.start("waiter")
    page = doors.window()
    page.goto(f"{guarded.url}/dashboard/runs/{run}?find=x")
    expect(page).to_have_url(re.compile("/dashboard/login"))
    page.get_by_label("Token").fill("not-a-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("This token is not known here.")
    log_in(page, "olga")
    expect(page).to_have_url(f"{guarded.url}/dashboard/runs/{run}?find=x")
    expect(chip(page)).to_have_text("running")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert TOKENS["olga"] not in str(cookie)


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "javascript:alert(1)"]
)
def test_one_is_never_sent_elsewhere(doors: Pages, guarded: Server, wanted: str) -> None:
    page = doors.window()
    page.goto(f"{guarded.url}/dashboard/login?next={wanted}")
    log_in(page, "olga")
    expect(page).to_have_url(f"{guarded.url}/")


def test_a_viewer_is_shown_nothing_to_press(doors: Pages, guarded: Server) -> None:
    run = guarded.start("waiter")
    page = enter(doors, "vera")
    expect(chip(row(page, run))).to_have_text("running")
    expect(row(page, run).get_by_role("button")).to_have_count(0)
    expect(row(page, run).get_by_role("checkbox")).to_have_count(0)
    for name in ("Stop all", "Start a run", "Halt"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.goto(f"{guarded.url}/dashboard/runs/{run}")
    live(page)
    expect(chip(page)).to_have_text("running")
    expect(page.locator("run-head .do").get_by_role("button")).to_have_count(0)
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_an_operator_acts_on_runs_of_her_own(doors: Pages, guarded: Server) -> None:
    run = guarded.start("waiter")
    olga, otto = enter(doors, "olga"), enter(doors, "otto")
    expect(chip(row(otto, run))).to_have_text("running")
    expect(row(otto, run)).to_contain_text("olga")
    expect(row(otto, run).get_by_role("button", name="Stop")).to_have_count(0)
    expect(otto.get_by_role("button", name="Start a run")).to_be_visible()
    row(olga, run).get_by_role("button", name="Stop").click()
    olga.keyboard.press("Enter")
    expect(chip(row(olga, run))).to_have_text("stopped")
    expect(row(otto, run)).to_contain_text("by olga")


def test_an_admin_stops_everybodys_and_it_is_told_who_did(doors: Pages, guarded: Server) -> None:
    run = guarded.start("waiter")
    page = enter(doors, "anna", f"/dashboard/runs/{run}")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(chip(page)).to_have_text("stopped")
    expect(page.locator(".strip")).to_contain_text("Stopped by anna")


def test_one_logs_out(doors: Pages) -> None:
    page = enter(doors, "olga")
    page.get_by_label("Settings").click()
    expect(page.locator("page-settings")).to_contain_text("olga (operator)")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/dashboard/login"))
    assert page.context.cookies() == []


def test_who_could_not_be_logged_out_is_told(doors: Pages) -> None:
    page = enter(doors, "olga")
    page.route("**/session", lambda route: route.abort())
    page.get_by_label("Settings").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.locator(".toast.error")).to_contain_text("You are still logged in")
