"""What the tests of the dashboard use: a server that can be restarted, windows, and a client."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from playwright.sync_api import expect

from tests.api.processes import quiesce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

    from tests.api.processes import Process

AGENTS = Path(__file__).parent / "agents.py"
# A loaded machine may take its time; a test that passes does not wait for this.
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)

# A server serves all the tests of a module.
LIFETIME_S = 900.0

LIVE_OR_OVER = re.compile("live|over")

# What the browser itself says of requests that fail; the pages are meant to bear those.
_FAILED_REQUEST = "Failed to load resource"


class Server:
    """``quiesce serve`` in a process of its own.

    Attributes:
        url: where it is, the same after it was started again.
        http: a client of it.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.url = ""
        self.process: Process | None = None
        self.http = httpx.Client()

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run it for the time of the body."""
        port = self.url.rpartition(":")[2] or "0"
        order = ["serve", "--agents", str(AGENTS), "--store", "sqlite:///runs.db", "--port", port]
        with quiesce(*order, *self.options, cwd=self.folder, lifetime_s=LIFETIME_S) as self.process:
            self.url = self.process.until("listening on").split()[-1]
            self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_MS / 1000)
            with self.http:
                yield self

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.signal(signal.SIGKILL)
        self.process.popen.wait()

    def start(self, agent: str, options: dict[str, Any] | None = None, **given: Any) -> str:
        """Start a run and return its id."""
        order = {"agent": agent, "input": given, "options": options or {}}
        answer = self.http.post("/runs", json=order)
        assert answer.status_code == 201, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    def get(self, run_id: str) -> dict[str, Any]:
        """Return a run."""
        run: dict[str, Any] = self.http.get(f"/runs/{run_id}").raise_for_status().json()
        return run

    def failures(self) -> str:
        """Return in words which runs have failed lately, and why."""
        try:
            failed = self.http.get("/runs", params={"status": "failed", "limit": 3}).json()["runs"]
        except httpx.TransportError as error:
            return f"the server does not say: {error!r}"
        return "\n".join(f"{run['id']} {run['agent']}: {run['error']}" for run in failed)

    def stop(self, run_id: str, **order: Any) -> dict[str, Any]:
        """Stop a run, as somebody else would."""
        answer: dict[str, Any] = self.http.post(f"/runs/{run_id}/stop", json=order).json()
        return answer

    def wait(self, run_id: str) -> str:
        """Wait until a run has ended, and return how."""
        run = self.http.get(f"/runs/{run_id}", params={"wait_s": PATIENCE_MS / 1000 - 1}).json()
        return str(run["status"])


class Pages:
    """Windows of a browser. Each has a profile of its own, as if it were another person's."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self.browser = browser
        self.server = server
        self.complaints: list[str] = []
        self._contexts: list[BrowserContext] = []

    def window(self, *, caught: bool = False, **options: Any) -> Page:
        """Open a window.

        Args:
            caught: its requests can be caught by a route that is set later.
        """
        context = self.browser.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if caught:
            # With its first route, a page that is loaded begins to have its requests caught a
            # while after it was told to, and what it asks for meanwhile goes past.
            page.route("**/nothing-asks-for-this", lambda route: route.abort())
        return page

    def runs(self, query: str = "", **options: Any) -> Page:
        """Open the page of all runs, and wait until it is live."""
        page = self.window(**options)
        page.goto(f"{self.server.url}/{query}")
        live(page)
        return page

    def run(self, run_id: str, query: str = "", **options: Any) -> Page:
        """Open the page of one run, and wait until it knows what it shows."""
        page = self.window(**options)
        page.goto(f"{self.server.url}/dashboard/runs/{run_id}{query}")
        expect(page.locator("html")).to_have_attribute("data-connection", LIVE_OR_OVER)
        return page

    def close(self) -> None:
        """Close them all. A page that complained fails the test."""
        for context in self._contexts:
            context.close()
        assert self.complaints == []

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and _FAILED_REQUEST not in message.text:
            self.complaints.append(message.text)


def until(page: Page, seen: Callable[[], object]) -> None:
    """Wait until something is seen of the page's requests.

    Raises:
        AssertionError: it was not, in all the time that a test waits.
    """
    tries = PATIENCE_MS // 20
    while not seen():
        assert tries > 0, "it was not seen"
        tries -= 1
        page.wait_for_timeout(20)


def live(page: Page) -> None:
    """Wait until the page is connected."""
    expect(page.locator("html")).to_have_attribute("data-connection", "live")


def row(page: Page, run_id: str) -> Locator:
    """Return the row of a run in the list."""
    return page.locator(".rows .row").filter(has=page.locator(f'a[href$="{run_id}"]'))


def chip(where: Page | Locator) -> Locator:
    """Return the status that is shown there."""
    return where.locator("status-chip").first
