"""The list: only what is seen is drawn, and the cursor stays on its row."""

from __future__ import annotations

import asyncio

from rich.text import Text
from textual.app import App, ComposeResult

from api.top.rows import Rows

MANY = [f"run {number}" for number in range(5_000)]


class Lists(App[None]):
    """An app with nothing but a list; ``drawn`` are the rows that were drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[str] = []
        self.rows = Rows(self._draw, "nothing", id="rows", opens=True)

    def compose(self) -> ComposeResult:
        yield self.rows

    def _draw(self, key: str, width: int) -> Text:
        self.drawn.append(key)
        return Text(key)


def test_of_a_long_list_only_what_is_seen_is_drawn() -> None:
    async def play() -> None:
        app = Lists()
        async with app.run_test(size=(80, 24)) as pilot:
            app.rows.focus()
            app.rows.fill(MANY)
            await pilot.press("end")
            assert app.rows.key == MANY[-1]
            await pilot.pause()
            assert set(app.drawn) <= {*MANY[:24], *MANY[-24:]}
            assert MANY[-1] in app.drawn

    asyncio.run(play())


def test_the_cursor_stays_on_its_row_while_others_come_and_go() -> None:
    async def play() -> None:
        app = Lists()
        async with app.run_test() as pilot:
            app.rows.focus()
            app.rows.fill(["a", "b", "c"])
            await pilot.press("down")
            app.rows.fill(["new", "a", "b", "c"])
            assert app.rows.key == "b"
            app.rows.fill(["new", "a", "c"])
            assert app.rows.key == "c"
            app.rows.fill([])
            assert app.rows.key is None
            await pilot.press("enter", "down", "up")

    asyncio.run(play())
