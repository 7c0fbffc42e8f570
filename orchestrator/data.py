"""Durable data of an owner's: keys and JSON values, shared by runs and kept beyond them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.agent import as_json, named_values
from orchestrator.errors import InvalidInput, check_text
from orchestrator.faults import check_list
from orchestrator.store.codec import encode
from orchestrator.store.writes import DropData, SaveData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from orchestrator.model import Json
    from orchestrator.ports import RunPort
    from orchestrator.store.writes import Write

KEY_CHARACTERS = 512
VALUE_BYTES = 2**20
PAGE = 1_000
# What becomes of a value whose operation is cut.
STORED_SOON = "stored as soon as the store takes it"

_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}")

# Within the class, ``list`` is a method of ours.
_Keys: TypeAlias = "list[str]"


class DataSpace:
    """One namespace of the data that belongs to the owner of a run, ``ctx.data``.

    Every run of the same owner sees the same entries, and no run of another owner does. They
    stay when the run ends, unless it is stopped with ``discard``: that takes those which the run
    wrote last.

    Each method is an operation: a checkpoint, refused once a stop is asked for; in flight a
    graceful stop lets it finish.
    """

    __slots__ = ("_name", "_run")

    def __init__(self, run: RunPort, namespace: str) -> None:
        self._run = run
        self._name = namespace

    def namespace(self, name: str) -> DataSpace:
        """Return the namespace of that name, which need not exist. Not a checkpoint.

        Args:
            name: up to 200 letters, digits, ``_``, ``.``, ``-`` and spaces, not beginning with
                one of the last three. It does not depend on the namespace at hand.

        Raises:
            InvalidInput: it is not such a name.
        """
        if not _NAMESPACE.fullmatch(check_text("namespace", name)):
            raise InvalidInput(
                [
                    (
                        "namespace",
                        f"{name[:50]!r} is not a plain name of at most 200 characters;"
                        " use letters, digits, '_', '.', '-' and spaces",
                    )
                ]
            )
        return DataSpace(self._run, name)

    async def get(self, key: str, default: Json = None) -> Json:
        """Return the value of a key, or the default if there is none.

        Raises:
            InvalidInput: the key is not a text of 1 to 512 characters.
            StoreUnavailable: it cannot be read at present.
        """
        async with self._operation("get", _check_key(key)):
            found = await self._run.store.data(self._run.record.owner, self._name, key)
            return default if found is None else json.loads(found)

    async def set(self, key: str, value: Json) -> None:
        """Set the value of a key; it is durable when this returns.

        Two that set a key at once are both stored, one after the other.

        Args:
            value: JSON, or what has a JSON form, of at most 1 MiB when encoded.

        Raises:
            InvalidInput: the key or the value does not fit; nothing was set.
            StoreUnavailable: not durable yet. The value is kept in memory and stored as soon as
                the store takes it, unless the process ends first; until then the old one is read.
            trio.Cancelled: where a stop's grace ran out meanwhile, the same holds.
        """
        _check_key(key)
        encoded = _encoded(value)
        owner = self._run.record.owner
        async with self._operation("set", key, STORED_SOON):
            await self._write(SaveData(self._run.id, owner, self._name, key, encoded))

    async def delete(self, key: str) -> bool:
        """Remove a key; that is durable when this returns.

        Returns:
            whether it was there. Two that delete it at once may both be told so.

        Raises:
            InvalidInput, StoreUnavailable: as for ``set``.
        """
        owner = self._run.record.owner
        async with self._operation("delete", _check_key(key)):
            found = await self._run.store.data(owner, self._name, key)
            await self._write(DropData(owner, self._name, key))
            return found is not None

    async def list(self, prefix: str = "", *, after: str = "", limit: int = PAGE) -> _Keys:
        """Return keys in the order of their code points.

        Args:
            prefix: what they begin with; empty for all.
            after: the last key of the page before; empty for the first page.
            limit: how many at most, 1 to 1000.

        Raises:
            InvalidInput: an argument does not fit.
            StoreUnavailable: they cannot be read at present.
        """
        if type(limit) is not int or not 1 <= limit <= PAGE:
            raise InvalidInput(
                [("limit", f"{limit!r} is not within 1 and {PAGE}; read more with `after`")]
            )
        # A prefix may be empty, and longer than any key.
        bounds = {"prefix": check_text("prefix", prefix), "after": check_text("after", after)}
        async with self._operation("list", prefix[:KEY_CHARACTERS]):
            return await self._run.store.data_keys(
                self._run.record.owner, self._name, limit=limit, **bounds
            )

    async def get_many(self, keys: Sequence[str]) -> dict[str, Json]:
        """Return the values of those of the keys that are there, in one operation.

        Raises:
            InvalidInput, StoreUnavailable: as for ``get``.
        """
        wanted = [_check_key(key) for key in check_list("keys", keys)]
        owner, found = self._run.record.owner, {}
        async with self._operation("get", f"({len(wanted)} keys)"):
            for key in wanted:
                value = await self._run.store.data(owner, self._name, key)
                if value is not None:
                    found[key] = json.loads(value)
        return found

    async def set_many(self, values: Mapping[str, Json]) -> None:
        """Set the values of keys in one operation; they are durable when this returns.

        Raises:
            InvalidInput, StoreUnavailable, trio.Cancelled: as for ``set``.
        """
        given = named_values(values, "values")
        encoded = {_check_key(key): _encoded(value) for key, value in given.items()}
        run, owner = self._run, self._run.record.owner
        async with self._operation("set", f"({len(encoded)} keys)", STORED_SOON):
            await self._write(
                *(SaveData(run.id, owner, self._name, key, each) for key, each in encoded.items())
            )

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove keys in one operation; that is durable when this returns.

        Returns:
            how many were there.

        Raises:
            InvalidInput, StoreUnavailable: as for ``set``.
        """
        wanted = [_check_key(key) for key in check_list("keys", keys)]
        owner, there = self._run.record.owner, 0
        async with self._operation("delete", f"({len(wanted)} keys)"):
            for key in wanted:
                there += await self._run.store.data(owner, self._name, key) is not None
            await self._write(*(DropData(owner, self._name, key) for key in wanted))
        return there

    def _operation(
        self, verb: str, key: str, effect: str = ""
    ) -> AbstractAsyncContextManager[None]:
        return self._run.gate.operation("data", f"{verb} {self._name}/{key}", effect)

    async def _write(self, *writes: Write) -> None:
        journal, ticket = self._run.journal, 0
        for number, write in enumerate(writes):
            if number:
                await journal.room()
            ticket = journal.append([write], urgent=True)
        await journal.durable(ticket)


def _check_key(key: str) -> str:
    if not 1 <= len(check_text("key", key)) <= KEY_CHARACTERS:
        raise InvalidInput(
            [
                (
                    "key",
                    f"has {len(key)} characters, but a key has 1 to {KEY_CHARACTERS};"
                    " a hash of a long one will do, or a namespace for its first part",
                )
            ]
        )
    return key


def _encoded(value: Json) -> bytes:
    encoded = encode(as_json(value, "value")).encode()
    if len(encoded) > VALUE_BYTES:
        raise InvalidInput(
            [
                (
                    "value",
                    f"has {len(encoded)} bytes as JSON, but may have {VALUE_BYTES} at most;"
                    " divide it among several keys, or keep it as an artifact",
                )
            ]
        )
    return encoded
