"""Answers that are made while what they tell of becomes durable, and are given once it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quart import g

from api.auth.headers import harden
from api.calls import the_orchestrator
from api.problems import from_error
from orchestrator import StoreUnavailable

if TYPE_CHECKING:
    from quart import Response
    from quart_trio import QuartTrio

    from orchestrator import Run, RunRecord


async def hold(run: Run) -> RunRecord:
    """Hold back the answer to the request that is under way until the run's start is durable.

    To be called in the step in which the run was admitted. Returns the run as it was then, when it
    is time to make the answer: the disk is at work, and the loop has nothing else to do for this
    request. If the start cannot be made durable, the answer says that instead.
    """
    orchestrator = the_orchestrator()
    # Whatever becomes of the run from here on is not part of its start, and may be stored later.
    started, ticket = run.record, run.ticket
    g.held = partial(orchestrator.stored, run, ticket)
    await orchestrator.underway(ticket)
    return started


def install(app: QuartTrio) -> None:
    """Give answers only then. To be called after who tells of answers, and before all others."""
    app.after_request(_release)


async def _release(response: Response) -> Response:
    if "held" not in g:
        return response
    try:
        await g.held()
    except StoreUnavailable as error:
        return await harden(from_error(error))
    return response
