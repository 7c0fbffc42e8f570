"""The WebSocket: any number of feeds, and what is asked of runs, over one connection.

What comes in is bounded, and what goes out holds nothing but cursors, as streams do. The reader
never waits: a command takes effect in the step in which it is read, and its answer follows from a
task of its own. So commands work while the store does not, and a peer that leaves is noticed.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from pydantic_core import to_jsonable_python
from quart import Blueprint, current_app, json, websocket

from api import acts, problems
from api.auth.guard import caller, check_run
from api.auth.rights import Right
from api.calls import decode_json, show, the_orchestrator
from api.failures import Failures
from api.schema import AllEventsQuery, ControlOrder, EventsQuery, StopOrder, parse
from api.stream import CLOSING_S, KEEP_ALIVE_S, AllRuns, OneRun
from orchestrator import InvalidInput, OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from quart import Response

    from api.stream import Part, Source, Streams

_failures = Failures("a WebSocket", explain=True)

blueprint = Blueprint("socket", __name__)

# What one connection may have at a time.
MAX_FEEDS = 100
MAX_PENDING = 200

# WebSocket close codes.
GOING_AWAY = 1001
POLICY = 1008
SERVER_ERROR = 1011

ALL = "*"

# What may be asked of a run, with the rest of the message as for the HTTP call of that name.
_ACTS: Mapping[str, tuple[Any, Callable[[str, Any], acts.Asked]]] = {
    "stop": (StopOrder, acts.Stop),
    "pause": (ControlOrder, acts.pause),
    "resume": (ControlOrder, acts.resume),
    "step": (ControlOrder, acts.step),
}
_COMMANDS = ("subscribe", "unsubscribe", *_ACTS, "ping", "pong")


@blueprint.websocket("/ws")
async def ws() -> None:
    """Serve one peer until it leaves, breaks the rules, or the server closes."""
    try:
        code, reason = await Session(current_app.extensions["quiesce.streams"]).run()
    except Exception as error:
        _failures.note(error)
        code, reason = SERVER_ERROR, "the server made a mistake; its log says which"
    await websocket.close(code, reason)


@dataclass(eq=False, slots=True)
class Feed:
    """A subscription of a peer's."""

    name: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class Session:
    """One peer: what it listens to, and what it has asked for."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._orchestrator = the_orchestrator()
        self._feeds: dict[str, Feed] = {}
        self._pending = 0
        self._ending = (GOING_AWAY, "")

    async def run(self) -> tuple[int, str]:
        """Return the code and the reason with which to close."""
        await websocket.accept()
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._beat)
            self._nursery.start_soon(self._leave)
            while True:
                self._hear(await websocket.receive())
        return self._ending

    def _end(self, code: int, reason: str) -> None:
        self._ending = (code, reason)
        self._nursery.cancel_scope.cancel(reason=reason)

    async def _leave(self) -> None:
        """End with the server, once every feed has said what there is."""
        await self._streams.closing.wait()
        with trio.move_on_after(2 * CLOSING_S):
            for feed in list(self._feeds.values()):
                await feed.ended.wait()
        self._end(GOING_AWAY, "the server is closing")

    async def _beat(self) -> None:
        """Let pages see that the server lives; a peer that does not is found by its connection."""
        count = 0
        while True:
            await trio.sleep(KEEP_ALIVE_S)
            count += 1
            await self._say(ping=count)

    # What comes in

    def _hear(self, message: str | bytes | None) -> None:
        request = None
        try:
            said = _read(message)
            request = _sayable("request", said.pop("request", None))
            self._obey(said, request)
        except OrchestratorError as error:
            self._reply(request, problems.from_error(error))

    def _obey(self, said: dict[str, Any], request: Any) -> None:
        command, value = _command(said)
        match command:
            case "ping":
                words = {"pong": _sayable("ping", value)}
                words |= {} if request is None else {"request": request}
                self._later(partial(self._say, **words))
            case "pong":
                pass
            case "subscribe":
                self._subscribe(value, said, request)
            case "unsubscribe":
                self._unsubscribe(value, request)
            case _:
                self._act(command, value, said, request)

    def _act(self, command: str, run_id: str, said: dict[str, Any], request: Any) -> None:
        order_type, ask = _ACTS[command]
        order = parse(order_type, said)
        checked = acts.Checked(command, run_id, partial(ask, run_id, order), reason=order.reason)
        self._later(partial(self._answer, run_id, request, checked.answer))

    def _subscribe(self, name: str, said: dict[str, Any], request: Any) -> None:
        open_source = self._all_runs(said) if name == ALL else self._one_run(name, said)
        if len(self._feeds) >= MAX_FEEDS and name not in self._feeds:
            why = f"{MAX_FEEDS} feeds are open; unsubscribe from one, or subscribe to {ALL!r}"
            raise InvalidInput([("subscribe", why)])
        self._drop(name)
        feed = self._feeds[name] = Feed(name)
        self._later(partial(self._open, feed, request, open_source))

    def _unsubscribe(self, name: str, request: Any) -> None:
        if not self._drop(name):
            why = f"there is no subscription to {name!r}"
            self._reply(request, problems.problem(404, "not-subscribed", why))
            return
        self._later(partial(self._say, request=request, status=200, body={"unsubscribed": name}))

    def _drop(self, name: str) -> bool:
        feed = self._feeds.pop(name, None)
        if feed is not None:
            feed.scope.cancel(reason="unsubscribed")
        return feed is not None

    def _one_run(self, run_id: str, said: dict[str, Any]) -> Callable[[], Awaitable[Source]]:
        asked = parse(EventsQuery, said)

        async def open_source() -> Source:
            await check_run(Right.READ, run_id)
            live = self._orchestrator.live(run_id)
            self._streams.audience.expect(live)
            subscription = await self._orchestrator.events(run_id, after=asked.after)
            return OneRun(subscription, live, partial(show, self._orchestrator, run_id))

        return open_source

    def _all_runs(self, said: dict[str, Any]) -> Callable[[], Awaitable[Source]]:
        asked = parse(AllEventsQuery, said)
        where = asked.where(caller().may_see)
        source = AllRuns(self._orchestrator.listen(after=asked.after, where=where))

        async def open_source() -> Source:
            return source

        return open_source

    # What goes out

    async def _open(
        self, feed: Feed, request: Any, open_source: Callable[[], Awaitable[Source]]
    ) -> None:
        """Answer a subscription, also one that was dropped meanwhile, and follow it."""
        try:
            source = await open_source()
        except OrchestratorError as error:
            self._close(feed)
            body, status = await _problem(error)
            await self._say(request=request, status=status, body=body)
            return
        await self._say(request=request, status=200, body={"subscribed": feed.name})
        self._nursery.start_soon(self._follow, feed, request, source)

    async def _follow(self, feed: Feed, request: Any, source: Source) -> None:
        try:
            with feed.scope:
                # It may have been dropped before it began.
                await trio.lowlevel.checkpoint_if_cancelled()
                async with aclosing(self._streams.follow(source)) as following:
                    async for parts in following:
                        for part in parts:
                            await websocket.send(_message(feed.name, part))
        except OrchestratorError as error:
            self._reply(request, problems.from_error(error))
        finally:
            self._close(feed)

    def _close(self, feed: Feed) -> None:
        feed.ended.set()
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]

    async def _answer(
        self,
        run_id: str,
        request: Any,
        answer: Callable[[], Awaitable[tuple[dict[str, Any], int]]],
    ) -> None:
        try:
            body, status = await answer()
        except OrchestratorError as error:
            body, status = await _problem(error, **problems.about(run_id))
        await self._say(request=request, status=status, body=body)

    def _reply(self, request: Any, response: Response) -> None:
        async def answer() -> tuple[dict[str, Any], int]:
            return await problems.document(response), response.status_code

        self._later(partial(self._answer, "", request, answer))

    def _later(self, say: Callable[[], Awaitable[None]]) -> None:
        """Say something from a task of its own; but only so much at a time."""
        if self._pending >= MAX_PENDING:
            self._end(POLICY, f"more than {MAX_PENDING} answers wait; read them")
            return
        self._pending += 1
        self._nursery.start_soon(self._say_later, say)

    async def _say_later(self, say: Callable[[], Awaitable[None]]) -> None:
        await say()
        self._pending -= 1

    async def _say(self, **words: Any) -> None:
        await websocket.send(json.dumps(words))


async def _problem(error: OrchestratorError, **about: Any) -> tuple[dict[str, Any], int]:
    response = problems.from_error(error, **about)
    return await problems.document(response), response.status_code


def _sayable(name: str, value: Any) -> Any:
    """Return what an answer is to repeat.

    Raises:
        InvalidInput: it cannot; some numbers are read, such as 1e999, that JSON cannot say.
    """
    if to_jsonable_python(value, inf_nan_mode="null") != value:
        why = "has a number that JSON has no word for, such as NaN or 1e999; make it a string"
        raise InvalidInput([(name, why)])
    return value


def _read(message: str | bytes | None) -> dict[str, Any]:
    """Return the object that the peer has sent.

    Raises:
        InvalidInput: it is none.
    """
    try:
        said = decode_json(message.encode() if isinstance(message, str) else message or b"")
    except (ValueError, RecursionError) as error:
        raise InvalidInput([("message", f"is not JSON: {error}")]) from None
    if not isinstance(said, dict):
        raise InvalidInput([("message", "must be a JSON object")])
    return said


def _command(said: dict[str, Any]) -> tuple[str, Any]:
    """Take the command out of a message, and what it is about.

    Raises:
        InvalidInput: it is not exactly one that is known, or not about a run.
    """
    commands = [name for name in said if name in _COMMANDS]
    if len(commands) != 1:
        raise InvalidInput([("message", f"must have exactly one of: {', '.join(_COMMANDS)}")])
    (command,) = commands
    value = said.pop(command)
    if command not in ("ping", "pong") and not isinstance(value, str):
        raise InvalidInput([(command, "must be the id of a run")])
    return command, value


def _message(feed: str, part: Part) -> str:
    """Return a part of a feed as a message; its JSON is not read again."""
    place = int(part.place) if part.place and feed != ALL else part.place
    envelope = json.dumps({"feed": feed, "after": place})
    if not part.name:
        return envelope
    kind = part.name if part.name in ("snapshot", "reset") else "event"
    return f'{{"{kind}": {part.data}, {envelope[1:]}'
