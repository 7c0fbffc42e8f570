"""What an endpoint answers to the executions of a job."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from orchestrator import Orchestrator, RunStatus
from orchestrator.agents.job import job

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
