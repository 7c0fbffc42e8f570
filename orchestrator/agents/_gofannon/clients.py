"""Gofannon's clients: of other agents, of HTTP, and of servers of tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.agents._gofannon.stopping import passing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx


class GofannonClient:
    """Calls other agents, as sub-agents: they stop with the one that calls them."""

    async def call(self, agent_name: str, input_dict: Mapping[str, Any] | None = None) -> Any:
        """Run another agent and return what it returns; errors as for ``Context.call``.

        Raises:
            AgentStopped: the run is to stop.
        """
        with passing(leaf=False) as context:
            return await context.call(agent_name, **(input_dict or {}))


class HttpClient:
    """The run's own HTTP client, whose requests are operations. Follows redirects."""

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Make a request; ``options`` as for ``httpx``.

        Raises:
            AgentStopped: the run is to stop.
        """
        with passing() as context:
            found: httpx.Response = await context.request(
                method, url, **{"follow_redirects": True, **options}
            )
            return found

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """``request("GET", …)``."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """``request("POST", …)``."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> httpx.Response:
        """``request("PUT", …)``."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> httpx.Response:
        """``request("PATCH", …)``."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> httpx.Response:
        """``request("DELETE", …)``."""
        return await self.request("DELETE", url, **options)

    async def aclose(self) -> None:
        """Nothing: its connections are closed as the run ends, whether it was stopped or not."""


class RemoteMCPClient:
    """A server of tools, in the Model Context Protocol. Needs ``quiesce[mcp]``."""

    def __init__(self, remote_url: str, auth_token: str | None = None) -> None:
        self.remote_url = remote_url
        self._headers = {"Authorization": f"Bearer {auth_token}"} if auth_token else None

    async def list_tools(self) -> list[dict[str, Any]]:
        """Return its tools, as models take them.

        Raises:
            AgentStopped: the run is to stop.
        """
        with passing() as context:
            async with context.mcp(self.remote_url, headers=self._headers) as server:
                found: list[dict[str, Any]] = await server.tools()
                return found

    async def call(self, tool_name: str, **params: Any) -> Any:
        """Call a tool and return its result; errors as for ``ToolServer.call``.

        Raises:
            AgentStopped: the run is to stop.
        """
        with passing() as context:
            async with context.mcp(self.remote_url, headers=self._headers) as server:
                return await server.call(tool_name, **params)
