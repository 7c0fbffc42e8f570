"""How output becomes lines, and at what pace they are told; in memory and in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio

from orchestrator.agents._command.output import BURST, TAIL, CommandOutput
from orchestrator.worker import output
from orchestrator.worker.output import LINE, TURN, Pace

if TYPE_CHECKING:
    from trio.testing import MockClock

    from orchestrator import Context


class Log:
    """A context that keeps what is logged."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def log(self, message: str, level: str = "info") -> None:
        self.said.append(message)


@pytest.fixture
def log() -> Log:
    """What was told."""
    return Log()


def reading(log: Log, *, has_meaning: bool = False, burst: int = BURST) -> CommandOutput:
    return CommandOutput(cast("Context", log), Pace(burst), "info", has_meaning=has_meaning)


@pytest.mark.parametrize(
    ("chunks", "said", "count"),
    [
        (["a\nb\n"], ["a", "b"], 2),
        (["a", "b", "\n", "c"], ["ab", "c"], 2),
        (["\n", "\n"], ["", ""], 2),
        (["a\r\n", "b\r", "\nc\rd"], ["a", "b", "c\rd"], 3),
        ([""], [], 0),
        (["x" * LINE + "\n"], ["x" * LINE], 1),
        (["x" * LINE, "x\n", "y"], ["x" * LINE, "x", "y"], 2),
        (["x" * LINE * 2, "\n", "y"], ["x" * LINE] * 2 + ["y"], 2),
        (["x" * (LINE * 2 + 1)], ["x" * LINE] * 2 + ["x"], 1),
        (["{" + "x" * LINE, "}\n"], ["{" + "x" * (LINE - 1), "x}"], 1),
    ],
)
@pytest.mark.parametrize("has_meaning", [False, True])
async def test_lines_come_whole_whatever_chunks_they_come_in(
    log: Log, chunks: list[str], said: list[str], count: int, has_meaning: bool
) -> None:
    stream = reading(log, has_meaning=has_meaning)
    for chunk in chunks:
        await stream.take(chunk)
    await stream.end()
    assert log.said == said
    assert stream.lines == count


async def test_the_tail_is_the_end_of_what_was_said(log: Log) -> None:
    stream = reading(log)
    await stream.take("".join(f"{n}\n" for n in range(1000)))
    assert stream.tail.splitlines() == [str(n) for n in range(900, 1000)]
    await stream.take("x" * 100_000)
    await stream.end()
    assert stream.tail == "x" * TAIL


async def test_what_comes_too_fast_is_left_out_and_that_is_told(
    log: Log, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "PER_SECOND", 1)
    monkeypatch.setattr(output, "PAUSE_UNTIL", 5)
    stream = reading(log, burst=10)
    await stream.take("".join(f"{n}\n" for n in range(20)))
    assert log.said == [str(n) for n in range(10)]
    await trio.sleep(4)
    await stream.take("20\n")  # not yet: there would be a gap after every line
    await trio.sleep(1)
    await stream.take("21\n22\n")
    assert log.said[10:] == ["11 lines were left out here: they came too fast", "21", "22"]
    await trio.sleep(1000)
    await stream.take("".join(f"{n}\n" for n in range(23, 35)))
    assert log.said[13:] == [str(n) for n in range(23, 33)]
    await stream.take("\n" * 50 + "and more")
    await stream.end()
    assert log.said[23:] == ["53 lines were left out here: they came too fast"]
    assert stream.lines == 35 + 51
    assert stream.left_out == 11 + 53
    assert stream.tail.endswith("33\n34" + "\n" * 51 + "and more")


async def test_long_lines_cost_more(log: Log) -> None:
    stream = reading(log, burst=100)
    await stream.take(("x" * LINE + "\n") * 10)
    # 33 for each: three are told, and the one that uses up the rest.
    assert len(log.said) == 4


async def test_little_more_is_told_once_there_is_a_stop(log: Log) -> None:
    stream = reading(log)
    await stream.take("x\n" * 10)
    stream._pace.hurry()
    await stream.take("x\n" * 5_000)
    stream._pace.hurry()
    await stream.end()
    assert log.said.count("x") == 10 + output.LAST
    assert stream.lines == 5_010
    assert stream.left_out == 5_000 - output.LAST


async def test_what_has_a_meaning_is_never_left_out() -> None:
    told = []

    class Progressing(Log):
        async def progress(self, percent: float, message: str = "") -> None:
            told.append(percent)

    stream = reading(Progressing(), has_meaning=True, burst=2)
    await stream.take("a\nb\nc\nd\n")
    await stream.take('e\n{"prog')
    await stream.take('ress": 7}\nf\n{"progress": 8}')
    await stream.end()
    assert told == [7, 8]
    assert stream.left_out == 4


async def test_others_have_their_turn_while_lines_are_left_out(log: Log) -> None:
    turns = 0

    async def look() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    found = reading(log, burst=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await found.take("x\n" * 100 * TURN)
        nursery.cancel_scope.cancel()
    assert (found.lines, found.left_out) == (100 * TURN, 100 * TURN - 1)
    assert turns >= 90
