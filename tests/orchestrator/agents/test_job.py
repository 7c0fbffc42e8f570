"""What an endpoint answers to the executions of a job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator import Orchestrator, RunStatus, open_orchestrator
from orchestrator.agents.job import job

if TYPE_CHECKING:
    from orchestrator.testing import ScriptedHTTP

BOUND_S = 20


@pytest.mark.parametrize("status", [302, 304, 307, 404, 500])
async def test_an_execution_that_nobody_took_is_not_completed(
    orchestrator: Orchestrator, nursery: trio.Nursery, status: int
) -> None:
    """A redirect is not followed, so nobody has done the work, and it is not to be paid for."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            head = f"HTTP/1.1 {status} No\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
            await stream.send_all(head.encode())
            await stream.receive_some()

    [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
    endpoint = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/run"
    given = {"name": "j", "questions": ["q"], "models": ["m"], "regions": ["r"]}
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(job, given | {"endpoint": endpoint})
        assert (await run.wait()).status is RunStatus.FAILED
    partial_result = await orchestrator.partial(run.id)
    assert isinstance(partial_result, dict)
    [execution] = partial_result["executions"]
    assert execution["status"] == "failed"
    assert f"it answered {status}" in execution["error"]


@pytest.mark.parametrize("answer", ['{"cost": 1e999}', "[" * 300 + "]" * 300, "[1"])
async def test_json_that_cannot_be_kept_is_an_answer_all_the_same(
    scripted_http: ScriptedHTTP, answer: str
) -> None:
    """The work is done, and paid for."""
    says = {"content-type": "application/json"}
    scripted_http.on("POST", "http://models.test/run", text=answer, headers=says)
    given = {"name": "j", "questions": ["q"], "models": ["m"], "regions": ["r"]}
    async with open_orchestrator(transport=scripted_http) as orchestrator:
        run = await orchestrator.start(job, given | {"endpoint": "http://models.test/run"})
        with trio.fail_after(BOUND_S):
            record = await run.wait()
    [execution] = record.result["executions"]
    assert (execution["status"], execution["answer"]) == ("completed", answer)
