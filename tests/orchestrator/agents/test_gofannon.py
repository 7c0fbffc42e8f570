"""The names that Gofannon gives its agents; how they are stopped is in ``tests/dialects``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator import InvalidInput, Orchestrator, open_orchestrator
from orchestrator.agents.gofannon import as_agent, data_store
from tests.orchestrator.agents import from_gofannon
from tests.orchestrator.llm_server import hang, open_model_server
from tests.orchestrator.mcp.test_servers import open_site
from tests.orchestrator.worker.running import BOUND_S

if TYPE_CHECKING:
    from tests.orchestrator.agents.site import Site

pytestmark = pytest.mark.slow


async def test_its_data_store_takes_any_name_and_is_not_awaited(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(from_gofannon.keep)
        both = ["default", "files:a/b@1", "files:a/b@1 2"]
        assert (await run.wait()).result == [
            *[3, {"x": 2}],
            *[["b/1", "b/2", "c"], ["b/1", "b/2"], ["b/3"]],
            {"b/1": 1, "b/2": None, "c": {"x": 2}},
            *[None, [], {"b/2": None}],
            *[both, True, False, 2],
            *[[], ["default", "files:a/b@1 2"]],
        ]


async def test_its_input_may_have_any_names(orchestrator: Orchestrator) -> None:
    given = dict.fromkeys(["ctx", "self", "function", "agent", "run", "input_dict", "class"], 1)
    with trio.fail_after(BOUND_S):
        orchestrator.agents.add(from_gofannon.echo)
        run = await orchestrator.start(from_gofannon.hand_on, given)
        assert (await run.wait()).result == given


async def test_its_tools_are_servers_of_the_model_context_protocol() -> None:
    with trio.fail_after(BOUND_S):
        async with open_site() as site, open_orchestrator() as orchestrator:
            run = await orchestrator.start(from_gofannon.with_tools(site.url))
            assert (await run.wait()).result == [True, "3"]


async def test_its_other_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(BOUND_S):
        async with open_model_server() as model, open_orchestrator() as orchestrator:
            monkeypatch.setenv("QUIESCE_LLM_BASE_URL", model.url)
            model.will(hang())
            run = await orchestrator.start(from_gofannon.measure, {"url": site.url("/")})
            methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
            assert (await run.wait()).result == [128_000, 4, 2, *methods, "too late"]
            await model.until(lambda: not model.open)


def test_what_is_no_agent_of_gofannons_is_refused() -> None:
    def run(input_dict: object, tools: object) -> None: ...

    with pytest.raises(TypeError, match="is not `async def run"):
        as_agent(run)  # type: ignore[arg-type]  # which is the point
    with pytest.raises(InvalidInput, match="a character that no name has"):
        data_store.use_namespace("a\x1fb")
