"""Beacon's calls: jobs are runs of the agent ``job``, and their executions are its sub-agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from quart import Blueprint, g

from api import acts
from api.acts import Stop
from api.calls import the_orchestrator
from api.dialects.words import SETTLE_S, STATUSES, about_the_body, record_of
from api.schema import Order, StartOrder, StopOrder, parse
from orchestrator import InvalidInput, RunEnded, RunStatus, UnknownRun

if TYPE_CHECKING:
    from api.calls import Answer
    from orchestrator import RunRecord

blueprint = Blueprint("beacon", __name__)

JOB = "job"
EXECUTION = "execution"


class JobOrder(Order):
    """The body of ``POST /api/v1/jobs``; all but the last is the agent's input."""

    name: Any
    questions: Any
    models: Any
    regions: Any
    endpoint: Any
    concurrency: Any = None
    refund_to: Any = None
    no_stop_after_percent: Any = None


class CancelOrder(Order):
    """The body of a cancel; may be left out."""

    reason: str = Field("cancelled", max_length=2_000)


@blueprint.post("/api/v1/jobs")
async def start() -> Answer:
    """Start a job."""
    given = parse(JobOrder, g.body).model_dump(exclude_none=True)
    options = {n: given.pop(n) for n in ("no_stop_after_percent",) if n in given}
    try:
        run = await acts.start(StartOrder(agent=JOB, input=given, options=options))
    except InvalidInput as error:
        raise about_the_body(error) from None
    return {"job_id": run.id, "status": STATUSES[RunStatus(run.status)]}, 202


@blueprint.get("/api/v1/jobs/<run_id>")
async def job(run_id: str) -> dict[str, Any]:
    """Show a job and its executions."""
    await record_of(run_id, JOB)
    shown, *below = await the_orchestrator().tree(run_id)
    executions = [_execution(record) for record in below if record.agent == EXECUTION]
    return {"job_id": run_id, "status": STATUSES[shown.status], "executions": executions}


@blueprint.post("/api/v1/jobs/<run_id>/cancel")
async def cancel(run_id: str) -> dict[str, Any]:
    """Cancel a job: every connection of its executions is closed."""
    before = await record_of(run_id, JOB)
    after, receipt = await _cancel(before)
    return {
        "ok": True,
        "job_id": run_id,
        "previous_status": STATUSES[before.status],
        "new_status": after,
        "context_cancelled": receipt["outcome"] != "finished_first",
        # The job itself is one of them.
        "executions_cancelled": receipt["runs_stopped"] - 1,
        "cancelled_at": receipt["requested_at"],
    }


@blueprint.post("/api/v1/jobs/<run_id>/executions/<execution_id>/cancel")
async def cancel_execution(run_id: str, execution_id: str) -> dict[str, Any]:
    """Cancel one execution of a job; the others go on."""
    await record_of(run_id, JOB)
    before = await record_of(execution_id, EXECUTION)
    if before.parent_id != run_id:
        raise UnknownRun(execution_id)
    after, receipt = await _cancel(before)
    return {
        "ok": True,
        "job_id": run_id,
        "execution_id": execution_id,
        "previous_status": STATUSES[before.status],
        "new_status": after,
        "cancelled_at": receipt["requested_at"],
    }


async def _cancel(record: RunRecord) -> tuple[str, dict[str, Any]]:
    """Stop a run now; return what is shown of its status, and the receipt.

    Raises:
        RunEnded: it is over, by whatever it was ended.
    """
    reason = parse(CancelOrder, g.body if g.body is not None else {}).reason
    order = parse(StopOrder, {"mode": "now", "reason": reason, "wait_s": SETTLE_S})
    answer, _ = await Stop(record.id, order).answer()
    if record.status.is_terminal:
        raise RunEnded(record.id, record.status)
    return STATUSES[RunStatus(answer["run"]["status"])], answer["receipt"]


def _execution(record: RunRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "model": record.input["model"],
        "region": record.input["region"],
        "status": STATUSES[record.status],
    }
