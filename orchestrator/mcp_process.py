"""A server of the Model Context Protocol that is a process: messages over its pipes, and its end.

The protocol's own library would wait for the server alone: what a server that ends by itself leaves
behind would stay. It would also keep all that a server writes without an end of the line.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import asynccontextmanager, suppress
from itertools import chain
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import OrchestratorError
from orchestrator.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from orchestrator.ports import RunPort

# What was said already may take so long to be written; then the server's input is closed.
FLUSH_S = 0.5
# After so long it gets SIGTERM, and after so long again SIGKILL.
END_S = 2.0
# Bytes of the longest message.
LONGEST = 1 << 26
# Of the cleanup time so much is kept for SIGKILL to take effect, though never more than half.
RESERVE_S = 0.4
_CHUNK = 1 << 16


@asynccontextmanager
async def over_pipes(
    run: RunPort,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: str | None,
    over: trio.Event,
) -> AsyncIterator[Any]:
    """Start the server, and give the streams that the protocol's library wants.

    Afterwards nothing of its session is left.

    Args:
        over: set once nothing more is wanted of the server.

    Raises:
        OSError: it cannot be started.
        OrchestratorError: it wrote what is no message, without an end.
    """
    from mcp.client.stdio import get_default_environment

    process = await trio.lowlevel.open_process(
        argv,
        env=get_default_environment() | dict(env or {}),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    pipes = _Pipes(run, process, over)
    session = Session(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipes.hear)
            nursery.start_soon(pipes.write)
            nursery.start_soon(pipes.let_go)
            try:
                yield pipes.heard, pipes.said
            finally:
                with bounded(without_reserve(run.cleanup_left_s)):
                    await pipes.close()
                    await _end(session)
            nursery.cancel_scope.cancel()
    finally:
        killed = set(await session.kill())
        while session.members():  # the kernel holds one, so this is not its end
            killed.update(await session.kill())
        run.processes_killed(killed)
        await session.reap()


def without_reserve(cleanup_s: float) -> float:
    """Return how long a server may take to end by itself."""
    return cleanup_s - min(RESERVE_S, cleanup_s / 2)


async def _end(session: Session) -> None:
    """Have everything in the session end: of itself, or by SIGTERM."""
    with trio.move_on_after(END_S):
        await session.exited()
    session.signal(SIGTERM)
    with trio.move_on_after(END_S):
        await session.emptied()


class _Pipes:
    """What goes in and out of the server, as messages.

    Attributes:
        heard, said: the library's ends.
    """

    def __init__(self, run: RunPort, process: trio.Process, over: trio.Event) -> None:
        import anyio
        from mcp_types import jsonrpc_message_adapter

        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._read: Callable[..., Any] = jsonrpc_message_adapter.validate_json
        streams: Callable[[float], tuple[Any, Any]] = anyio.create_memory_object_stream
        self._give, self.heard = streams(0)
        self.said, self._take = streams(0)
        self._run = run
        self._over = over
        self._writing = trio.CancelScope()
        self._written = trio.Event()

    async def hear(self) -> None:
        """Take what the server writes, until it writes no more; drop it once nobody wants it."""
        import anyio

        buffer = bytearray()
        async with self._give:
            async for chunk in self._stdout:
                buffer += chunk
                if len(buffer) > LONGEST:
                    why = f"it wrote more than {LONGEST} bytes without an end of the line"
                    raise OrchestratorError(why)
                if b"\n" not in chunk:
                    continue
                *lines, rest = buffer.split(b"\n")
                buffer = bytearray(rest)
                for line in lines if not self._over.is_set() else ():
                    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                        await self._give.send(self._message(bytes(line)))

    async def write(self) -> None:
        """Write what the library says, until it says no more."""
        try:
            with self._writing:
                async for each in self._take:
                    text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await self._stdin.send_all(text.encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # It does not hear us, so there is no answer to wait for.
            self._give.close()
        finally:
            # Whatever else is to be said fails, and nobody waits.
            self._take.close()
            self._written.set()

    async def let_go(self) -> None:
        """Once nothing more is wanted, write for a short while only: it may not read."""
        await self._over.wait()
        with trio.move_on_after(min(FLUSH_S, self._run.cleanup_left_s / 4)):
            await self._written.wait()
        self._writing.cancel()

    async def close(self) -> None:
        """Let what was said be written, and end the server's input."""
        self._over.set()
        self.heard.close()
        self.said.close()
        await self._written.wait()
        await self._stdin.aclose()

    def _message(self, line: bytes) -> Any:
        from mcp.shared.message import SessionMessage

        errors = []
        for form in chain([line], _other_forms(line)):
            try:
                return SessionMessage(self._read(form, by_name=False))
            except ValueError as error:
                errors.append(error)
        return errors[0]


def _other_forms(line: bytes) -> Iterator[bytes]:
    """Yield what may stand for a line that is no message.

    It may hold the half of a character, as the text of a server has it that cuts texts. And what
    answers a call must end it, whatever it is.
    """
    from mcp_types import INTERNAL_ERROR

    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return
    yield json.dumps(said, ensure_ascii=False).encode(errors="replace")
    if isinstance(said, dict) and "method" not in said:
        why = {"code": INTERNAL_ERROR, "message": "what it answered is no answer of the protocol"}
        yield json.dumps({"jsonrpc": "2.0", "id": said.get("id"), "error": why}).encode()
