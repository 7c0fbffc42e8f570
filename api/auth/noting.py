"""How calls get into the audit: what they do as they do it, what they are refused afterwards."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from quart import current_app, g, json

from api.auth.audit import Deed
from api.auth.guard import call, caller, origin, view_args
from orchestrator import StoreUnavailable

if TYPE_CHECKING:
    from quart import Response

    from api.auth.audit import Trail
    from orchestrator import Orchestrator, Run


def done(action: str, run: Run, reason: str = "") -> int:
    """Note that the caller has done something to a run; to be called in the step that did it.

    Returns:
        the ticket to wait for before that is acknowledged.
    """
    g.noted = True
    return _trail().note(_deed(action, run.id, reason), along=run.ticket)


def started(action: str, run: Run) -> None:
    """Note that the caller has started a run; to be called in the step that did it."""
    done_to_all(action, run.start_ticket, run_id=run.id)


def done_to_all(
    action: str, ticket: int | None, reason: str = "", *, run_id: str | None = None
) -> int:
    """Note that the caller has done something that is about no live run, as ``done`` does.

    Args:
        ticket: of what was done, in this very step; None if that is durable, or never is.
    """
    g.noted = True
    return _trail().note(_deed(action, run_id, reason), along=ticket)


async def refused(action: str, run_id: str | None, reason: str, result: str) -> None:
    """Note what the caller has asked for in vain.

    Args:
        result: the kind of the problem that is answered.
    """
    if result == "too-often":
        g.noted = True
        _trail().count(replace(_deed(action, run_id, reason), result=result))
    else:
        await kept(note_refusal(action, run_id, reason, result))


def note_refusal(action: str, run_id: str | None, reason: str, result: str) -> int:
    """Note the same without waiting, and return the ticket for ``kept``."""
    g.noted = True
    return _trail().note(replace(_deed(action, run_id, reason), result=result))


async def kept(ticket: int) -> None:
    """Wait until what was noted is durable, unless the store takes nothing at present."""
    with suppress(StoreUnavailable):  # it is stored as soon as the store takes it
        orchestrator: Orchestrator = current_app.extensions["quiesce"]
        await orchestrator.durable(ticket)


async def note_the_rest(response: Response) -> Response:
    """Note what was asked for in vain, or was done already."""
    if call().action and "caller" in g and "noted" not in g:
        # A dialect whose errors are no problems says which problem it is.
        result = g.get("result") or await kind_of(response)
        await refused(call().action, view_args().get("run_id"), _reason(), result)
    return response


def _deed(action: str, run_id: str | None, reason: str) -> Deed:
    return Deed(action, caller().principal, origin(), run_id, reason[:2_000])


def _reason() -> str:
    body = g.get("body")
    said = body.get("reason") if isinstance(body, dict) else None
    return said if isinstance(said, str) else ""


async def kind_of(response: Response) -> str:
    """Return what the audit calls the result of a call that was answered so."""
    if response.status_code < 400:
        return "ok"
    problem = json.loads(await response.get_data())
    return str(problem["type"]).rpartition(":")[2]


def _trail() -> Trail:
    trail: Trail = current_app.extensions["quiesce.trail"]
    return trail
