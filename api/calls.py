"""What the calls share: the orchestrator, the caller, the query, and how runs are shown."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any

import trio
from pydantic_core import from_json
from quart import Response, current_app, request

from api.answers import run_json
from api.encoding import encoded
from orchestrator import InvalidInput

if TYPE_CHECKING:
    from orchestrator import Orchestrator, Run

# Brackets below which nothing can be nested too deep.
DEEP = 100
# Bytes that take a millisecond to hash.
LARGE = 1_000_000

Answer = tuple[dict[str, Any], int] | tuple[dict[str, Any], int, dict[str, str]]


def the_orchestrator() -> Orchestrator:
    """Return the orchestrator that the application serves."""
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    return orchestrator


async def whole_run(run_id: str) -> dict[str, Any]:
    """Return a run as JSON, with its partial result."""
    return await show(the_orchestrator(), run_id)


async def show(orchestrator: Orchestrator, run_id: str) -> dict[str, Any]:
    """Return a run as JSON, with its partial result; also when no request is under way."""
    record = await orchestrator.get(run_id)
    partial = await orchestrator.partial(run_id)
    return run_json(record, orchestrator.live(run_id)) | {"partial": partial}


async def wait_for_end(run: Run | None, wait_s: float) -> None:
    """Wait for the run's end, but no longer than that."""
    if run is not None and wait_s > 0:
        with trio.move_on_after(wait_s):
            await run.ended.wait()


class _NotTaken(ValueError):
    """What the parser would take."""


def _refuse_constant(name: str) -> None:
    raise _NotTaken(f"{name} is no number of JSON; null stands for none")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise _NotTaken(f"{name!r} is given more than once in one object")
    return found


_DECODER = JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def decode_json(raw: bytes) -> Any:
    """Return JSON that comes from outside.

    Raises:
        ValueError: it is none, has a name twice in an object, or is nested about 200 deep.
        RecursionError: likewise.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8, by its byte {error.start}") from None
    if raw.count(b"[") + raw.count(b"{") > DEEP:
        # The other parser's limit is that of the interpreter, which any library may have raised
        # beyond what the stack of the process holds.
        from_json(text)
    try:
        return _DECODER.decode(text)
    except (JSONDecodeError, _NotTaken):
        raise
    except ValueError:
        raise ValueError("a number has too many digits") from None


def query() -> dict[str, str]:
    """Return the query of the request.

    Raises:
        InvalidInput: something is given twice.
    """
    if not request.query_string:
        return {}
    given = request.args.to_dict(flat=False)
    repeated = [name for name, values in given.items() if len(values) > 1]
    if repeated:
        raise InvalidInput([(name, "is given more than once") for name in repeated])
    return {name: values[0] for name, values in given.items()}


async def json_response(value: Any) -> Response:
    """Return a response of any JSON value, which may be null; see ``encoded``."""
    return Response(await encoded(value), content_type="application/json")


async def tagged(response: Response) -> Response:
    """Give the response an ``ETag``; whoever names it has the content, and gets a 304."""
    content = await response.get_data(as_text=False)
    # Of a large one in a thread, where others need not wait for it.
    large = len(content) > LARGE
    digest = await trio.to_thread.run_sync(sha256, content) if large else sha256(content)
    response.set_etag(digest.hexdigest()[:20])
    response.headers["Cache-Control"] = "no-cache"
    if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = 304
        response.set_data(b"")
    return response
