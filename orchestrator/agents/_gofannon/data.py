"""Gofannon's data store, whose methods block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.agents._gofannon.stopping import passing
from orchestrator.errors import InvalidInput
from orchestrator.worker.face import data_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.model import Json

# All of it is in this namespace of ours, since Gofannon's take any name.
SPACE = "gofannon"
# Between its namespace and its key.
_BETWEEN = "\x1f"
_AFTER_ALL = chr(ord(_BETWEEN) + 1)


class DataStore:
    """Keys and JSON values that all agents of one owner share.

    As in Gofannon its methods are not awaited. Each blocks the agent's loop for a moment, is an
    operation, and raises ``AgentStopped`` once the run is to stop.
    """

    def __init__(self, namespace: str = "default") -> None:
        if _BETWEEN in namespace:
            raise InvalidInput([("namespace", f"{namespace!r} has a character that no name has")])
        self._prefix = f"{namespace}{_BETWEEN}"

    def use_namespace(self, namespace: str) -> DataStore:
        """Return the store of another namespace."""
        return DataStore(namespace)

    def get(self, key: str, default: Json = None) -> Json:
        """Return the value of a key, or the default."""
        return _at_once("get", self._prefix + key, default)

    def set(self, key: str, value: Json, metadata: Mapping[str, Any] | None = None) -> None:
        """Set the value of a key; it is durable when this returns. Metadata are not kept."""
        _at_once("set", self._prefix + key, value)

    def delete(self, key: str) -> bool:
        """Remove a key; return whether it was there."""
        return bool(_at_once("delete", self._prefix + key))

    def list_keys(self, prefix: str | None = None) -> list[str]:
        """Return all keys with that prefix, in their order."""
        return [each.removeprefix(self._prefix) for each in _keys(self._prefix + (prefix or ""))]

    def list_namespaces(self) -> list[str]:
        """Return the names of the namespaces that have keys, in their order."""
        found: list[str] = []
        after = ""
        while keys := _at_once("list", after=after, limit=1):
            found.append(keys[0].partition(_BETWEEN)[0])
            after = found[-1] + _AFTER_ALL
        return sorted(found)

    def get_many(self, keys: Sequence[str]) -> dict[str, Json]:
        """Return the values of those of the keys that are there."""
        found = _at_once("get_many", [self._prefix + key for key in keys])
        return {key.removeprefix(self._prefix): value for key, value in found.items()}

    def get_all(self) -> dict[str, Json]:
        """Return all keys with their values."""
        return self.get_many(self.list_keys())

    def set_many(self, items: Mapping[str, Json], metadata: Mapping[str, Any] | None = None) -> int:
        """Set the values of keys; they are durable when this returns. Return how many."""
        _at_once("set_many", {self._prefix + key: value for key, value in items.items()})
        return len(items)

    def clear(self) -> int:
        """Remove all keys; return how many there were."""
        return int(_at_once("delete_many", list(_keys(self._prefix))))


def _keys(prefix: str) -> Iterator[str]:
    after = ""
    while page := _at_once("list", prefix=prefix, after=after):
        yield from page
        after = page[-1]


def _at_once(what: str, *arguments: Any, **named: Any) -> Any:
    with passing() as context:
        return getattr(data_at_once(context).namespace(SPACE), what)(*arguments, **named)
