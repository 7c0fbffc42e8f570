"""Ctrl-C as the rungs of the stop ladder."""

from __future__ import annotations

import faulthandler
import os
import signal
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from orchestrator import StopMode

if TYPE_CHECKING:
    from collections.abc import Iterator


class Press(NamedTuple):
    """What was asked for by a signal.

    Attributes:
        mode: None once there is no higher rung.
        by: what people call the signal.
    """

    mode: StopMode | None
    by: str


Presses = trio.MemoryReceiveChannel[Press]

LADDER = (StopMode.GRACEFUL, StopMode.NOW, StopMode.KILL)
# From the kill on: longer than any rung of the ladder takes.
LAST_RESORT_S = 3.0
_SHOW_CURSOR = b"\x1b[?25h"
_CALLED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


@contextmanager
def interrupts(*, here: bool) -> Iterator[Presses]:
    """Turn each Ctrl-C into a rung of the ladder, one higher each time; SIGTERM is the first rung,
    and climbs no higher.

    Args:
        here: the run is in this process. So SIGHUP is the first rung too, unless it is ignored:
            who has the run is going with the terminal. And the run may block Trio itself, and
            then only the end of the process ends it: that comes ``LAST_RESORT_S`` after the third
            Ctrl-C, with exit code 1 and a list of where every thread stands.
    """
    send, receive = trio.open_memory_channel[Press](inf)
    token = trio.lowlevel.current_trio_token()
    rung = 0
    terminals = [number for number in (1, 2) if os.isatty(number)]

    # Python runs this between two instructions of whatever the main thread does.
    def handle(number: int, frame: Any) -> None:
        nonlocal rung
        rung = rung + 1 if number == signal.SIGINT else max(rung, 1)
        if number == signal.SIGHUP:
            _drop_output(terminals)
        if rung == len(LADDER) and here:
            faulthandler.dump_traceback_later(LAST_RESORT_S, exit=True, file=2)
            if os.isatty(1):
                os.write(1, _SHOW_CURSOR)
        mode = LADDER[rung - 1] if rung <= len(LADDER) else None
        token.run_sync_soon(send.send_nowait, Press(mode, _CALLED[signal.Signals(number)]))

    numbers = [signal.SIGINT, signal.SIGTERM]
    if here and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield receive
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        faulthandler.cancel_dump_traceback_later()


def _drop_output(terminals: list[int]) -> None:
    """Forget what is printed to those that are gone; an error of it would cut the stop short."""
    for number in terminals:
        if not os.isatty(number):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
