"""Agents that end in odd ways, of each kind of code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator import agent

if TYPE_CHECKING:
    from orchestrator import AsyncioContext, Context, SyncContext

NO_TEXT = "\udcff"


class Mute(Exception):
    """Cannot be printed."""

    def __str__(self) -> str:
        raise LookupError("no words")

    __repr__ = __str__


class Leaving(Exception):
    """Ends the program that prints it."""

    def __str__(self) -> str:
        sys.exit(3)


@agent
def plain(ctx: SyncContext, how: str) -> str:
    """End so."""
    return end(how)


@agent(runtime="asyncio")
async def on_asyncio(ctx: AsyncioContext, how: str) -> str:
    """End so."""
    return end(how)


@agent(isolation="process")
async def on_trio(ctx: Context, how: str) -> str:
    """End so."""
    return end(how)


def end(how: str) -> str:
    """End so."""
    match how:
        case "mute":
            raise Mute
        case "leaving":
            raise Leaving
        case "no text":
            raise ValueError(NO_TEXT)
        case "long":
            raise ValueError("x" * 1_000_000)
        case "deep":
            _raise_chain(1_000)
        case "forks":
            if os.fork() == 0:
                return "the child's"
            os.wait()
        case "forks and exits":
            if os.fork() == 0:
                sys.exit(3)
            os.wait()
    return NO_TEXT


def _raise_chain(length: int) -> None:
    error: Exception | None = None
    for number in range(length):
        before, error = error, ValueError(f"number {number}")
        error.__cause__ = before
    assert error is not None
    raise error
