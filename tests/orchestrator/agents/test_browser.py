"""What the agent ``browser`` refuses, and what it says of an action that cannot be done."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import InvalidInput, Orchestrator
from orchestrator.agents.browser import browser

if TYPE_CHECKING:
    from tests.orchestrator.agents.site import Site

BOUND_S = 60
needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None and not os.environ.get("CI"),
    reason="needs `apt install chromium`",
)


@pytest.mark.parametrize("action", [{}, {"click": None}, {"click": "a", "read": "a"}])
def test_an_action_is_exactly_one_thing(action: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="must have exactly one of: goto, click, fill"):
        browser.parse({"url": "http://site.test/", "actions": [action]})


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("kind", ["click", "read", "wait_for"])
async def test_an_action_that_cannot_be_done_is_named(
    orchestrator: Orchestrator, site: Site, kind: str
) -> None:
    site.page("/")
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(browser, {"url": site.url("/"), "actions": [{kind: "div["}]})
        record = await run.wait()
    assert record.error is not None
    assert record.error.type == "BrowserFailed"
    assert record.error.message.startswith(f"{kind} div[: ")
