"""What the context of code outside of Trio gives: the same names, without Trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.data import DataSpace
    from orchestrator.mcp import ToolServer
    from orchestrator.model import Json, RunId
    from orchestrator.ports import Child
    from orchestrator.worker.way import Way


class DataFace:
    """``ctx.data``, for code outside of Trio; see ``DataSpace``."""

    def __init__(self, data: DataSpace, cross: Callable[..., Any]) -> None:
        self._data = data
        self._cross = cross

    def namespace(self, name: str) -> DataFace:
        """See ``DataSpace.namespace``."""
        return DataFace(self._data.namespace(name), self._cross)

    def get(self, key: str, default: Json = None) -> Any:
        """See ``DataSpace.get``."""
        return self._cross(self._data.get, key, default)

    def set(self, key: str, value: Json) -> Any:
        """See ``DataSpace.set``."""
        return self._cross(self._data.set, key, value)

    def delete(self, key: str) -> Any:
        """See ``DataSpace.delete``."""
        return self._cross(self._data.delete, key)

    def get_many(self, keys: Sequence[str]) -> Any:
        """See ``DataSpace.get_many``."""
        return self._cross(self._data.get_many, keys)

    def set_many(self, values: Mapping[str, Json]) -> Any:
        """See ``DataSpace.set_many``."""
        return self._cross(self._data.set_many, values)

    def delete_many(self, keys: Sequence[str]) -> Any:
        """See ``DataSpace.delete_many``."""
        return self._cross(self._data.delete_many, keys)

    def list(self, **page: Any) -> Any:
        """See ``DataSpace.list``."""
        return self._cross(self._data.list, **page)


class ChildFace:
    """A sub-agent that was started and not waited for, for code outside of Trio; see ``Child``."""

    def __init__(self, child: Child, way: Way) -> None:
        self._child = child
        self._way = way

    @property
    def id(self) -> RunId:
        """Its run id."""
        return self._child.id

    def wait(self) -> Any:
        """See ``Child.wait``."""
        return self._way.cross(self._child.wait)

    def stop(self, *, grace_s: float | None = None, reason: str = "") -> Any:
        """See ``Child.stop``."""
        return self._way.cross(self._child.stop, grace_s=grace_s, reason=reason)


class ToolServerFace:
    """A server of the Model Context Protocol, for code outside of Trio; see ``ToolServer``."""

    def __init__(self, server: ToolServer, way: Way) -> None:
        self._server = server
        self._way = way

    def __enter__(self) -> ToolServerFace:
        self._way.cross(self._server.open)
        return self

    def __exit__(self, *error: object) -> None:
        self._way.cross(self._server.close)

    async def __aenter__(self) -> ToolServerFace:
        await self._way.cross(self._server.open)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._way.cross(self._server.close)

    def tools(self) -> Any:
        """See ``ToolServer.tools``."""
        return self._way.cross(self._server.tools)

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """See ``ToolServer.call``."""
        return self._way.cross(self._server.call, tool, **arguments)
