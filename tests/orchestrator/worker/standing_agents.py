"""Agents that stand somewhere in particular."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import TYPE_CHECKING

import trio

from orchestrator import agent

if TYPE_CHECKING:
    from orchestrator import AsyncioContext, Context, SyncContext

LONG_S = 600


@agent(isolation="process")
async def on_trio(ctx: Context) -> None:
    """Wait in two tasks."""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(operate, ctx)
        await ctx.log("ready")
        await trio.sleep(LONG_S)


async def operate(ctx: Context) -> None:
    """Wait in an operation."""
    async with ctx.operation("op", "of Trio's"):
        await trio.sleep(LONG_S)


@agent
def blocking(ctx: SyncContext) -> None:
    """Wait in three threads."""
    for wait in (block_in_a_thread, call_in_a_thread):
        threading.Thread(target=wait, args=(ctx,)).start()
    with ctx.operation("op", "of a function's"):
        block(ctx)


def block(ctx: SyncContext) -> None:
    """Wait."""
    ctx.log("ready")
    time.sleep(LONG_S)


def block_in_a_thread(ctx: SyncContext) -> None:
    """Wait in an operation."""
    with ctx.operation("op", "of a thread's"):
        time.sleep(LONG_S)


def call_in_a_thread(ctx: SyncContext) -> None:
    """Be in a call most of the time."""
    while True:
        ctx.data.get("k")


@agent(runtime="asyncio")
async def on_asyncio(ctx: AsyncioContext) -> None:
    """Wait in three tasks."""
    async with asyncio.TaskGroup() as group:
        group.create_task(operate_in_a_task(ctx))
        group.create_task(waits_for_its_event())
        await ctx.log("ready")
        await asyncio.sleep(LONG_S)


async def operate_in_a_task(ctx: AsyncioContext) -> None:
    """Wait in an operation."""
    async with ctx.operation("op", "of a task's"):
        await asyncio.sleep(LONG_S)


async def waits_for_its_event() -> None:
    """Wait."""
    await asyncio.Event().wait()


@agent(runtime="asyncio")
async def blocks_asyncio(ctx: AsyncioContext) -> None:
    """Block the loop in a task."""
    await ctx.log("ready")
    await asyncio.create_task(block_the_loop())


async def block_the_loop() -> None:
    """Block."""
    time.sleep(LONG_S)  # noqa: ASYNC251  # what nobody should do


@agent(isolation="process")
async def parent(ctx: Context) -> None:
    """Have a sub-agent in a process of its own."""
    await ctx.log("ready")
    await ctx.call(blocking)


@agent
def holding_the_lock(ctx: SyncContext) -> None:
    """Hold the lock of the interpreter, in C."""
    ctx.log("ready")
    # That is answered from outside, so what was said before it has come through.
    ctx.step("told", int)
    re.match(r"(a|aa)+$", "a" * 100 + "b")


@agent
def slow_to_end(ctx: SyncContext) -> None:
    """Take too long to clean up."""
    try:
        ctx.log("ready")
        time.sleep(LONG_S)
    finally:
        time.sleep(LONG_S)


SLOW_LINE = slow_to_end.function.__code__.co_firstlineno + 7
