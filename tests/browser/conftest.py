"""A real browser before a real server.

Without a browser these tests are skipped, and say so; where ``CI`` is set they fail instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.looking import Pages, Server

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from playwright.sync_api import Browser

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "NO BROWSER: nothing of the dashboard was tested; install it with `apt install chromium`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none, unless that would go unseen."""
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.slow)
        if CHROMIUM is None and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in the report of a test that failed which runs of its server did, and why."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.when == "call" and report.failed and isinstance(server, Server):
        report.sections.append(("runs that failed", server.failures()))
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser; its windows are ``Pages``."""
    assert CHROMIUM is not None, MISSING
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in a process of its own, for all the tests of a module."""
    with Server(tmp_path_factory.mktemp("server")).running() as started:
        yield started


@pytest.fixture
def pages(browser: Browser, server: Server) -> Iterator[Pages]:
    """Windows onto that server. None of them may complain on its console."""
    opened = Pages(browser, server)
    yield opened
    opened.close()
