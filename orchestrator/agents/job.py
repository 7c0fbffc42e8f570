"""The built-in job: questions for many models in many regions, each pair in a run of its own.

Each pair of a model and a region is an execution: a sub-agent that asks an endpoint. Whatever pays
for the job can be told of a stop.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import trio
from pydantic import AfterValidator, Field

from orchestrator.agent import agent, as_json
from orchestrator.agents._crawl.fetch import in_words, read_body
from orchestrator.errors import AgentFailed, AgentStopped, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.context import Context
    from orchestrator.model import Json

ANSWER_BYTES = 2**20
SHOWN = 500


def _endpoint(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"is no URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("must be an http or https URL with a host")
    return url


def _different(words: list[str]) -> list[str]:
    if len(set(words)) < len(words):
        raise ValueError("may have each name only once")
    return words


Endpoint = Annotated[str, Field(max_length=2_000), AfterValidator(_endpoint)]
# Two of them and what is between them are the name of a durable step.
Word = Annotated[str, Field(min_length=1, max_length=90)]
Words = Annotated[list[Word], Field(min_length=1, max_length=32), AfterValidator(_different)]

# How many executions of the job at hand may ask at once.
_slots: ContextVar[trio.CapacityLimiter] = ContextVar("quiesce_job_slots")


class ExecutionFailed(RuntimeError):
    """An endpoint could not be asked, or has answered with an error."""


class JobFailed(RuntimeError):
    """No execution of a job has succeeded."""


@agent(name="execution")
async def execution(
    ctx: Context,
    job_id: str,
    model: Word,
    region: Word,
    questions: list[Any],
    endpoint: Endpoint,
) -> dict[str, Json]:
    """Put the questions of a job to one model in one region; jobs start this.

    It POSTs `{"job_id", "execution_id", "model", "region", "questions"}` to the endpoint. The
    result is `{"id", "status", "answer"}`, where `answer` is JSON if the endpoint says so.
    """
    body = {
        "job_id": job_id,
        "execution_id": ctx.run_id,
        "model": model,
        "region": region,
        "questions": questions,
    }
    slots = _slots.get(trio.CapacityLimiter(1))
    async with slots, ctx.operation("http", f"POST {endpoint}"[:SHOWN]):
        try:
            status, answer = await _post(ctx.http, endpoint, body)
        except httpx.HTTPError as error:
            raise ExecutionFailed(f"POST {endpoint}: {in_words(error)}") from None
    if not 200 <= status < 300:
        # Nor has anybody done the work who sends us elsewhere.
        raise ExecutionFailed(f"POST {endpoint}: it answered {status}: {str(answer)[:SHOWN]}")
    return {"id": ctx.run_id, "status": status, "answer": answer}


async def _post(http: httpx.AsyncClient, endpoint: str, body: Json) -> tuple[int, Json]:
    headers = {"Accept-Encoding": "gzip"}
    async with http.stream("POST", endpoint, json=body, headers=headers) as response:
        content, _ = await read_body(response, ANSWER_BYTES)
    text = content.decode(errors="replace")
    if "json" in response.headers.get("content-type", ""):
        try:
            answer = as_json(json.loads(text, parse_constant=str), "answer")
            return response.status_code, answer
        except (InvalidInput, ValueError, RecursionError):
            pass  # it says that it is JSON, and is not, or none that can be kept
    return response.status_code, text


@agent(name="job")
async def job(
    ctx: Context,
    name: Annotated[str, Field(min_length=1, max_length=200)],
    questions: Annotated[list[Any], Field(min_length=1, max_length=1_000)],
    models: Words,
    regions: Words,
    endpoint: Endpoint,
    concurrency: Annotated[int, Field(ge=1, le=1_024)] = 64,
    refund_to: Endpoint | None = None,
) -> dict[str, Json]:
    """Put questions to each model in each region, every pair in a run of its own.

    Result and partial result: `{"name", "executions": [{"model", "region", "status", "id", "answer"
    or "error"}]}`, where `status` is `completed`, `failed` or `cancelled`. It fails only if no
    execution was completed. A stop closes the connections of those that are under way; what was
    finished stays.

    - `questions`: JSON, which the endpoint gets as it is.
    - `endpoint`: where each execution POSTs to; see the agent `execution`.
    - `concurrency`: how many ask at once.
    - `refund_to`: if the job is stopped, `{"job_id", "name", "completed", "unfinished"}` is POSTed
      there, with the id of the job as its `Idempotency-Key`.
    """
    matrix = _Matrix(ctx, name, list(product(models, regions)))
    if refund_to is not None:
        ctx.on_stop(matrix.refund, refund_to)
    ctx.on_stop(matrix.tell)
    _slots.set(trio.CapacityLimiter(concurrency))
    asked = {"job_id": ctx.run_id, "questions": questions, "endpoint": endpoint}
    async with trio.open_nursery() as nursery:
        for place, (model, region) in enumerate(matrix.pairs):
            given = {**asked, "model": model, "region": region}
            nursery.start_soon(matrix.fill, place, given)
    if not matrix.count("completed"):
        raise JobFailed(f"none of {len(matrix.pairs)} executions was completed")
    return matrix.result


@dataclass(slots=True)
class _Matrix:
    """The executions of one job.

    Attributes:
        found: what became of those that are over, by their place among the pairs.
    """

    ctx: Context
    name: str
    pairs: Sequence[tuple[str, str]]
    found: dict[int, dict[str, Json]] = field(default_factory=dict)

    @property
    def result(self) -> dict[str, Json]:
        """What is known so far."""
        return {"name": self.name, "executions": [self.found[n] for n in sorted(self.found)]}

    def count(self, status: str) -> int:
        """Return how many executions have ended so."""
        return sum(each["status"] == status for each in self.found.values())

    async def fill(self, place: int, given: dict[str, Json]) -> None:
        """Do an execution, unless that was done before the job was started again."""
        step = f"{given['model']} in {given['region']}"
        self.found[place] = await self.ctx.step(step, self._execute, place, given)
        percent = 100 * len(self.found) / len(self.pairs)
        await self.ctx.progress(percent, f"{len(self.found)} of {len(self.pairs)} executions")
        await self.tell()

    async def _execute(self, place: int, given: dict[str, Json]) -> dict[str, Json]:
        outcome: dict[str, Json]
        try:
            said = await self.ctx.call(execution, **given)
            outcome = {"status": "completed", "id": said["id"], "answer": said["answer"]}
        except AgentFailed as failed:
            outcome = {"status": "failed", "id": failed.run_id, "error": failed.error.message}
        except AgentStopped as stopped:
            outcome = {"status": "cancelled", "id": stopped.run_id, "error": str(stopped)}
        found = {"model": given["model"], "region": given["region"], **outcome}
        # Within the step: a stop that let it finish is heard as the step ends.
        self.found[place] = found
        return found

    async def tell(self) -> None:
        """Set the partial result."""
        await self.ctx.partial(self.result)

    async def refund(self, url: str) -> None:
        """Say what was not done, to whoever was paid for it."""
        completed = self.count("completed")
        response = await self.ctx.post(
            url,
            json={
                "job_id": self.ctx.run_id,
                "name": self.name,
                "completed": completed,
                "unfinished": len(self.pairs) - completed,
            },
            headers={"Idempotency-Key": self.ctx.run_id},
        )
        response.raise_for_status()
