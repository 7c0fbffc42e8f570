"""The built-in chat: a conversation with a language model that may use agents as its tools.

Each answer of the model and each tool is a durable step, and what it brings is put into the
conversation inside that step: so a stop finds it there, and a compensation writes it. What a stop,
a crash or anything else comes between has its place in the conversation from the beginning; see
``_chat/turns``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import trio
from pydantic import AfterValidator, Field

from orchestrator.agent import agent
from orchestrator.agents._chat.book import Book, holding
from orchestrator.agents._chat.turns import (
    as_text,
    final_answer,
    interrupted,
    last_turn,
    to_send,
    turn_of,
    unfinished,
)
from orchestrator.errors import (
    AgentFailed,
    AgentStopped,
    InvalidInput,
    OrchestratorError,
    UnknownAgent,
)
from orchestrator.model import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from orchestrator.agents._chat.turns import Message
    from orchestrator.context import Context
    from orchestrator.llm import Reply

# What has an input of its own, or none.
_OWN = {"messages", "model", "tools", "stream", "schema", "temperature", "max_tokens"}
# With these whoever starts a chat could have the key in the environment sent somewhere else.
_OF_THE_CLIENT = {"base_url", "api_key", "timeout", "extra_headers", "extra_query", "extra_body"}


def _free(parameters: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(parameters.keys() & (_OWN | _OF_THE_CLIENT)):
        raise ValueError(f"may not have {', '.join(taken)}")
    return parameters


Text = Annotated[str, Field(min_length=1, max_length=200_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Parameters = Annotated[dict[str, Any], AfterValidator(_free)]


class TooManyTurns(OrchestratorError):
    """The model has not come to an answer."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        super().__init__(
            f"the model still asks for tools after {turns} turns; the conversation is kept:"
            " continue it without a message, or with a greater max_turns"
        )


@agent(name="chat", calls="tools")
async def chat(
    ctx: Context,
    message: Text | None = None,
    conversation: Name | None = None,
    system: Text | None = None,
    model: Name | None = None,
    tools: Annotated[tuple[Name, ...], Field(max_length=128)] = (),
    max_turns: Annotated[int, Field(ge=1, le=1_000)] = 20,
    parallel_tools: Annotated[int, Field(ge=1, le=64)] = 4,
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    max_tokens: Annotated[int, Field(ge=1)] | None = None,
    stream: bool = True,
    parameters: Parameters | None = None,
) -> dict[str, Any]:
    """Talk with a language model, which may use agents as its tools.

    The conversation is kept, and another run may continue it, also after a stop or a crash: a
    tool that did not finish has a result that says so. Result and partial result:
    `{"conversation", "reply", "messages", "turns", "usage"}`.

    - `message`: what to say. Left out, the model goes on where the conversation stands.
    - `conversation`: the id of the one to continue, from the result of a run that was part of it;
      left out, a new one begins.
    - `system`: instructions for the model, in place of those that the conversation has.
    - `model`: `QUIESCE_LLM_MODEL` if left out.
    - `tools`: names of registered agents that the model may call, as sub-agents of this run.
    - `max_turns`: answers of the model after which the run fails.
    - `parallel_tools`: how many of the tools that it asks for at once run at once.
    - `temperature`, `max_tokens`, `parameters`: what the endpoint takes.
    - `stream`: tell the text as it comes, as events `llm.delta`.
    """
    named = conversation or ctx.run_id
    with holding(ctx, named):
        book = Book(ctx, named)
        ask = partial(
            ctx.llm,
            model=model,
            tools=list(dict.fromkeys(tools)),
            stream=stream,
            temperature=temperature,
            max_tokens=max_tokens,
            **(parameters or {}),
        )
        talk = _Talk(ctx, book, ask, tools, parallel_tools)
        ctx.on_stop(talk.keep)
        await book.load()
        await talk.begin(conversation, system, message)
        return await talk.to_the_answer(max_turns)


async def read_conversation(ctx: Context, conversation: str) -> list[Message]:
    """Return the messages of a conversation of the run's owner, for agents of one's own.

    It is empty if there is none of that id.
    """
    book = Book(ctx, conversation)
    await book.load()
    return book.messages


@dataclass(slots=True, eq=False)
class _Talk:
    """One run's part of a conversation.

    Attributes:
        ask: takes messages to the model.
        usage: what its answers have cost.
        begun: where, among this run's messages, the results of tools are that have begun.
        why: why the run was cancelled, if it was.
    """

    ctx: Context
    book: Book
    ask: Callable[[list[Message]], Awaitable[Reply]]
    tools: Collection[str]
    parallel_tools: int
    usage: dict[str, Any] = field(default_factory=lambda: asdict(Usage()))
    begun: set[int] = field(default_factory=set)
    why: str = ""

    @property
    def turns(self) -> int:
        """How often the model has answered."""
        return sum(each["role"] == "assistant" for each in self.book.own)

    @property
    def result(self) -> dict[str, Any]:
        """The result so far."""
        return {
            "conversation": self.book.conversation,
            "reply": final_answer(self.book.own),
            "messages": len(self.book.messages),
            "turns": self.turns,
            "usage": self.usage,
        }

    async def begin(self, conversation: str | None, system: str | None, text: str | None) -> None:
        """Say what the run has to say, unless it did before it was started again.

        Raises:
            InvalidInput: there is no such conversation, or nothing for the model to answer.
        """
        if self.book.own:
            return
        if conversation is not None and not self.book.earlier:
            why = f"you have no conversation {conversation!r}"
            raise InvalidInput([("input.conversation", why)])
        if text is None and (not self.book.earlier or final_answer(self.book.earlier) is not None):
            why = "is missing: the conversation has nothing that waits for an answer"
            raise InvalidInput([("input.message", why)])
        said = {"system": system, "user": text}
        self.book.add([{"role": role, "content": each} for role, each in said.items() if each])
        await self.book.save()

    async def to_the_answer(self, max_turns: int) -> dict[str, Any]:
        """Let the model and its tools take turns until the model asks for none."""
        try:
            while final_answer(self.book.own) is None:
                await self.ctx.partial(self.result)
                if any(unfinished(self.book.own)):
                    await self._use_tools()
                elif self.turns < max_turns:
                    await self._ask_model()
                else:
                    raise TooManyTurns(max_turns)
            await self.ctx.partial(self.result)
        except BaseException as error:
            self.why = _reason_of(error)
            raise
        return self.result

    async def keep(self) -> None:
        """Write what a stop left in memory, and of the tools that it interrupted that it did."""
        for place, _, result in unfinished(self.book.own):
            result["content"] = interrupted(self.why, begun=place in self.begun)
        await self.book.save()
        await self.ctx.partial(self.result)

    async def _ask_model(self) -> None:
        place = len(self.book.own)
        turn = await self.ctx.step(f"message {place}", self._answer)
        if len(self.book.own) == place:
            # The step was done before the run was started again.
            self.book.add(turn)
        await self.book.save()

    async def _answer(self) -> list[Message]:
        reply = await self.ask(to_send(self.book.messages))
        spent = asdict(reply.usage)
        self.usage = {name: self.usage[name] + spent[name] for name in spent}
        turn = turn_of(reply, self.tools)
        # Within the step: a stop that let the model finish is heard as the step ends.
        self.book.add(turn)
        return turn

    async def _use_tools(self) -> None:
        """Call the tools in the order in which the model asked for them, some at once."""
        waiting = iter(list(unfinished(self.book.own)))

        async def work() -> None:
            for place, function, result in waiting:
                step = f"message {place}"
                result["content"] = await self.ctx.step(step, self._call, place, function, result)
                await self.book.save()

        async with trio.open_nursery() as nursery:
            for _ in range(self.parallel_tools):
                nursery.start_soon(work)

    async def _call(self, place: int, function: Message, result: Message) -> str:
        self.begun.add(place)
        try:
            said = await self.ctx.call(function["name"], **json.loads(function["arguments"]))
        except AgentFailed as failed:
            said = f"error: {failed.error.type}: {failed.error.message}"
        except AgentStopped as stopped:
            said = f"interrupted: {stopped} before it finished; its effects are unknown"
        except (InvalidInput, UnknownAgent) as refused:
            said = f"error: {refused}"
        # Within the step, as an answer.
        results = len(self.book.own) - last_turn(self.book.own) - 1
        result["content"] = as_text(said, results)
        return str(result["content"])


def _reason_of(error: BaseException) -> str:
    """Return the words with which a stop cancels, ``stopped by user: changed my mind``, if any."""
    while isinstance(error, BaseExceptionGroup):
        error = (error.subgroup(trio.Cancelled) or error).exceptions[0]
    reason = (error.reason or "") if isinstance(error, trio.Cancelled) else ""
    return reason if reason.startswith("stopped by ") else ""
