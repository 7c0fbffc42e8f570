"""The built-in browser: a page that is gone through action by action, with a live picture.

It is an asyncio agent, since Playwright is asyncio's, and so it has a process of its own: the
browser belongs to that, and is gone with it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import AfterValidator, Field

from orchestrator.agent import agent
from orchestrator.errors import ExtraMissing

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Playwright

    from orchestrator.context import Context
    from orchestrator.model import Json

# Where Chromium is, if it is not on the path under one of these names.
VARIABLE = "QUIESCE_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUALITY = 60
LABEL = 200
TEXT = 100_000
# While something is waited for there is a new picture so often, in seconds.
PICTURE_S = 1.0


class BrowserMissing(RuntimeError):
    """There is no Chromium here."""


class BrowserFailed(RuntimeError):
    """An action could not be done."""


def _web(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must be an http or https URL")
    return url


Url = Annotated[str, Field(max_length=2_000), AfterValidator(_web)]
Selector = Annotated[str, Field(min_length=1, max_length=1_000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]


class Typing(pydantic.BaseModel):
    """What is typed into which field."""

    model_config = pydantic.ConfigDict(extra="forbid")

    selector: Selector
    text: str = Field(max_length=TEXT)


class Action(pydantic.BaseModel):
    """One of the things that can be done with a page."""

    model_config = pydantic.ConfigDict(extra="forbid")

    goto: Url | None = None
    click: Selector | None = None
    fill: Typing | None = None
    press: Typing | None = None
    wait_for: Selector | None = None
    read: Selector | None = None
    screenshot: Name | None = None

    @pydantic.model_validator(mode="after")
    def _is_one(self) -> Action:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError(f"must have exactly one of: {', '.join(type(self).model_fields)}")
        return self


@agent(name="browser", runtime="asyncio")
async def browser(
    ctx: Context,
    url: Url,
    actions: Annotated[list[Action], Field(max_length=1_000)] = [],  # noqa: B006  # never changed
    width: Annotated[int, Field(ge=100, le=4_000)] = 1280,
    height: Annotated[int, Field(ge=100, le=4_000)] = 720,
    timeout_s: Annotated[float, Field(gt=0, le=3_600)] = 30,
) -> dict[str, Json]:
    """Open a page in Chromium, and go through it action by action; the run shows a live picture.

    The result is `{"url", "title", "texts"}`, where `texts` has what was read, in order.

    - `actions`: each an object with one of `goto` (a URL), `click`, `wait_for`, `read` (a selector
      of Playwright's), `fill`, `press` (`{"selector", "text"}`; of `press` the text is a key, such
      as `Enter`), `screenshot` (the name of an artifact).
    - `timeout_s`: what an action may take before the run fails.
    """
    texts: list[str] = []
    async with _playwright() as playwright, await _launch(playwright) as chromium:
        page = await _open(chromium, width, height, timeout_s)
        for action in [Action(goto=url), *actions]:
            await _do(ctx, page, action, texts, timeout_s)
        return {"url": page.url, "title": await page.title(), "texts": texts}


def _playwright() -> Any:
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        raise ExtraMissing("playwright", "browser") from None
    return async_playwright()


async def _launch(playwright: Playwright) -> Browser:
    path = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise BrowserMissing(
            f"there is no Chromium on the path; install it, or name it with {VARIABLE}"
        )
    # Chromium's sandbox cannot be set up by root.
    return await playwright.chromium.launch(
        executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else []
    )


async def _open(chromium: Browser, width: int, height: int, timeout_s: float) -> Page:
    page = await chromium.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(timeout_s * 1_000)
    return page


async def _do(ctx: Context, page: Page, action: Action, texts: list[str], timeout_s: float) -> None:
    from playwright.async_api import Error

    ((kind, value),) = action.model_dump(exclude_none=True).items()
    label = f"{kind} {value if isinstance(value, str) else value['selector']}"[:LABEL]
    try:
        if kind == "wait_for":
            await _wait_for(ctx, page, value, timeout_s)
        else:
            async with ctx.operation("browser", label):
                await _act(ctx, page, kind, value, texts)
        await _show(ctx, page)
    except Error as error:
        raise BrowserFailed(f"{label}: {error.message}") from None


async def _act(ctx: Context, page: Page, kind: str, value: Any, texts: list[str]) -> None:
    match kind:
        case "goto":
            await page.goto(value)
        case "click":
            await page.click(value)
        case "fill":
            await page.fill(value["selector"], value["text"])
        case "press":
            await page.press(value["selector"], value["text"])
        case "read":
            texts.append((await page.inner_text(value))[:TEXT])
        case "screenshot":
            await ctx.artifact(value, await page.screenshot(), media_type="image/png")


async def _wait_for(ctx: Context, page: Page, selector: str, timeout_s: float) -> None:
    """Wait for an element, and show the page meanwhile. A stop ends it at once."""
    from playwright.async_api import TimeoutError as TookTooLong

    left_s = timeout_s
    while True:
        slice_s = min(left_s, PICTURE_S)
        try:
            await page.wait_for_selector(selector, timeout=slice_s * 1_000)
            return
        except TookTooLong:
            left_s -= slice_s
        if left_s <= 0:
            raise BrowserFailed(f"wait_for {selector}: it was not there within {timeout_s:g} s")
        await _show(ctx, page)


async def _show(ctx: Context, page: Page) -> None:
    await ctx.view(await page.screenshot(type="jpeg", quality=QUALITY))
