"""The stored conversation, in pages.

A page holds messages of one run only, so that ``discard`` takes what that run had added and
nothing else; and it holds whole turns, so that each write leaves a valid conversation.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from orchestrator.agents._chat.turns import clean
from orchestrator.data import PAGE
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.agents._chat.turns import Message
    from orchestrator.context import Context
    from orchestrator.model import RunId

NAMESPACE = "conversations"
# A page that has so much is full: bounds what is written again for each message.
PAGE_CHARACTERS = 64_000

# The conversations that are in use, and the run that has each; a conversation has the id of the run
# that began it, which is the same nowhere else. Runs in processes of their own do not see this, but
# since each writes its own pages only, both would be in the conversation, one after the other.
_holders: dict[str, RunId] = {}


class ConversationInUse(OrchestratorError):
    """Another run has this conversation; stop it, or wait for its end."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        super().__init__(
            f"conversation {conversation} is in use by another run;"
            " stop that one, or wait for its end"
        )


class Book:
    """One conversation, as one run sees it and adds to it.

    Attributes:
        conversation: its id.
        earlier: the messages of other runs.
    """

    def __init__(self, ctx: Context, conversation: str) -> None:
        self.conversation = conversation
        self._data = ctx.data.namespace(NAMESPACE)
        self._prefix = f"{conversation}/"
        self._mark = f" {ctx.run_id}"
        self._saving = trio.Lock()
        self._others = 0
        # This run's, by key; all but the last one are stored as they are.
        self._pages: dict[str, list[Message]] = {}
        self.earlier: list[Message] = []

    @property
    def own(self) -> list[Message]:
        """The messages of this run; some are there already if it was started again."""
        return [message for page in self._pages.values() for message in page]

    @property
    def messages(self) -> list[Message]:
        """All messages."""
        return self.earlier + self.own

    async def load(self) -> None:
        """Read what is stored. Call it once."""
        keys = found = await self._data.list(self._prefix, limit=PAGE)
        while len(found) == PAGE:
            found = await self._data.list(self._prefix, after=found[-1], limit=PAGE)
            keys = keys + found
        for key in keys:
            page = await self._data.get(key)
            if key.endswith(self._mark):
                self._pages[key] = page
            else:
                self._others += 1
                self.earlier += page

    def add(self, messages: Sequence[Message]) -> None:
        """Add a turn, or a question; ``save`` has to follow. Not a checkpoint."""
        last = next(reversed(self._pages.values()), None)
        if last is None or len(json.dumps(last)) > PAGE_CHARACTERS:
            number = self._others + len(self._pages)
            last = self._pages.setdefault(f"{self._prefix}{number:06}{self._mark}", [])
        last += clean(messages)

    async def save(self) -> None:
        """Make durable what was added or has changed in the last turn."""
        # In turns, since what is written after a wait would else be older than what is there.
        async with self._saving:
            for key in list(self._pages)[-1:]:
                await self._data.set(key, self._pages[key])


@contextmanager
def holding(ctx: Context, conversation: str) -> Iterator[None]:
    """Keep other runs from the conversation, until compensations that follow have run as well.

    Raises:
        ConversationInUse: another run has it.
    """

    def release() -> None:
        if _holders.get(conversation) == ctx.run_id:
            del _holders[conversation]

    if conversation in _holders:
        raise ConversationInUse(conversation)
    _holders[conversation] = ctx.run_id
    ctx.on_stop(release)
    try:
        yield
    except Exception:
        # Else, and after a cancellation, compensations follow.
        if not ctx.should_stop:
            release()
        raise
    release()
