"""Servers of the Model Context Protocol: their tools, called as operations.

The connection to a server, or the process that it is, outlives what a stop cancels at once: it is
kept by a task that only its own end can end, so that a call in flight may finish within the grace.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import (
    InvalidInput,
    OrchestratorError,
    check_text,
    in_words,
)
from orchestrator.llm.client import load
from orchestrator.llm.request import sendable
from orchestrator.mcp_process import over_pipes, without_reserve
from orchestrator.sections import outside_sections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mcp import Client
    from mcp.types import CallToolResult

    from orchestrator.ports import RunPort


class ToolServerUnavailable(OrchestratorError):
    """A server of the Model Context Protocol cannot be used."""

    def __init__(self, server: str, why: str) -> None:
        self.server = server
        super().__init__(f"the MCP server {server!r} cannot be used: {why}")


class ToolFailed(OrchestratorError):
    """A tool of a server of the Model Context Protocol says that it has failed."""

    def __init__(self, tool: str, text: str) -> None:
        self.tool = tool
        self.text = text
        super().__init__(f"the tool {tool!r} has failed: {text}")


class ToolResult(str):
    """What a tool has returned: its text.

    Attributes:
        value: its structured content, a JSON object; None if it has none.
        content: all of it, as the protocol has it.
    """

    __slots__ = ("content", "value")

    value: dict[str, Any] | None
    content: list[dict[str, Any]]


class ToolServer:
    """A server of the Model Context Protocol, for ``async with``; made by ``Context.mcp``."""

    def __init__(
        self,
        run: RunPort,
        server: str,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Check what is given. Nothing happens yet.

        Args:
            server: a command, which takes the arguments; or the URL of a server.
            env: variables that the command gets beside ``HOME``, ``PATH`` and the like.
            cwd: the command's working directory; that of this process if None.
            headers: sent to the URL with each request.

        Raises:
            InvalidInput: something does not fit.
        """
        self._run = run
        self._server = check_text("server", server)
        self._arguments = [check_text("arguments", each) for each in arguments]
        self._env = env
        self._cwd = cwd
        self._headers = headers
        self._is_http = server.startswith(("http://", "https://"))
        self._check()
        self._client: Client | None = None
        self._scope: trio.CancelScope | None = None
        self._failure: BaseException | None = None
        self._asking: set[trio.CancelScope] = set()
        self._ready, self._over, self._closed = trio.Event(), trio.Event(), trio.Event()

    async def __aenter__(self) -> ToolServer:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Start the server, or connect to it; an operation.

        Raises:
            ToolServerUnavailable: it cannot be started or reached, or does not speak the protocol.
            ExtraMissing: ``quiesce[mcp]`` is not installed.
            OrchestratorError: the agent's code has ended: this is a compensation.
        """
        await load("mcp", "mcp")
        try:
            async with self._run.gate.operation("mcp", "open", "connection closed"):
                if self._run.nursery is None:
                    raise OrchestratorError("the agent's code has ended: no MCP server is opened")
                self._run.servers.add(self)
                outside_sections(self._run.nursery.start_soon, self._serve)
                await self._ready.wait()
        except BaseException:
            await self.close()
            raise
        if self._client is None:
            raise ToolServerUnavailable(self._server, _why(self._failure))

    async def close(self) -> None:
        """Close the connection, or end the server's process. May be called twice."""
        self.begin_close()
        if self._scope is not None:
            with bounded(self._run.cleanup_left_s):
                await self._closed.wait()

    def begin_close(self) -> None:
        """Do what ``close`` does, without waiting. Not a checkpoint."""
        self._over.set()
        if self._scope is not None:
            left_s = self._run.cleanup_left_s if self._client is not None else 0
            self._scope.deadline = trio.current_time() + without_reserve(left_s)

    async def tools(self) -> list[dict[str, Any]]:
        """Return its tools as ``Context.llm`` takes them; an operation."""
        found: list[dict[str, Any]] = []
        async with self._run.gate.operation("mcp", "tools", "cancelled"):
            with self._while_it_is_there():
                page = await self._connected().list_tools()
                found += map(_for_models, page.tools)
                while page.next_cursor is not None:
                    page = await self._connected().list_tools(cursor=page.next_cursor)
                    found += map(_for_models, page.tools)
        return found

    async def call(self, tool: str, /, **arguments: Any) -> ToolResult:
        """Call a tool; an operation. When that is cut, the server is told that it is cancelled.

        Raises:
            InvalidInput: the arguments are no JSON; nothing was called.
            ToolFailed: the tool says so itself.
            mcp.MCPError: there is no such tool, or the server is gone.
        """
        check_text("tool", tool)
        given = sendable(arguments, "arguments")
        async with self._run.gate.operation("mcp", tool, "cancelled"):
            with self._while_it_is_there():
                return _read(tool, await self._connected().call_tool(tool, given))

    @contextmanager
    def _while_it_is_there(self) -> Iterator[None]:
        """Do not wait for the answer of a server whose connection has failed meanwhile."""
        with trio.CancelScope() as asking:
            self._asking.add(asking)
            try:
                yield
            finally:
                self._asking.discard(asking)
        if asking.cancelled_caught:
            raise ToolServerUnavailable(self._server, _why(self._failure))

    def _check(self) -> None:
        problems = []
        if not self._server:
            problems.append(("server", "is missing: a command, or a URL like `https://host/mcp`"))
        if self._is_http and (self._arguments or self._env or self._cwd):
            problems.append(("server", "is a URL, which takes no arguments, `env` or `cwd`"))
        if self._headers and not self._is_http:
            problems.append(("headers", "are for a URL; a command takes `env`"))
        if problems:
            raise InvalidInput(problems)

    def _connected(self) -> Client:
        if self._failure is not None:
            raise ToolServerUnavailable(self._server, _why(self._failure))
        if self._client is None or self._over.is_set():
            why = "it is closed, or has ended: use it within `async with`"
            raise ToolServerUnavailable(self._server, why)
        return self._client

    async def _serve(self) -> None:
        from mcp import Client

        with bounded(inf) as self._scope:
            try:
                if not self._over.is_set():
                    async with Client(self._transport()) as self._client:
                        self._ready.set()
                        await self._over.wait()
            except Exception as error:
                self._failure = error
            finally:
                self._client = None
                self._run.servers.discard(self)
                for asking in self._asking:
                    asking.cancel()
                self._ready.set()
                self._closed.set()

    def _transport(self) -> Any:
        if self._is_http:
            from orchestrator.mcp_http import over_http

            return over_http(self._server, self._headers)
        argv = [self._server, *self._arguments]
        return over_pipes(self._run, argv, self._env, self._cwd, self._over)


async def close_servers(run: RunPort) -> None:
    """Close what the agent's code has opened and not closed, which would keep the run from ending.

    Bounded; called when the code has ended.
    """
    left_open = list(run.servers)
    for server in left_open:
        server.begin_close()
    for server in left_open:
        await server.close()


def _for_models(tool: Any) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema,
    }
    return {"type": "function", "function": function}


def _read(tool: str, result: CallToolResult) -> ToolResult:
    content = [block.model_dump(mode="json", by_alias=True) for block in result.content]
    text = "\n".join(each["text"] for each in content if each["type"] == "text")
    if result.is_error:
        raise ToolFailed(tool, text)
    found = ToolResult(text)
    found.content, found.value = content, result.structured_content
    return found


def _why(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "it has ended" if error is None else f"{type(error).__name__}: {in_words(error)}"
