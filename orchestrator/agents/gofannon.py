"""For agents that were written for Gofannon: its names, over the run's own context.

Such an agent changes one import::

    from orchestrator.agents.gofannon import AgentStopped, call_llm, data_store, gofannon_client

Each call looks first whether the run is to stop. One that is in flight then finishes, up to the
grace, and its result is returned; the next one raises ``AgentStopped``, and so does the one after
it, in whatever function it stands. Everything else that waits is cancelled, as in any agent.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import trio

from orchestrator.agent import Agent
from orchestrator.context import Context, current_context
from orchestrator.errors import OrchestratorError
from orchestrator.sections import settling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import httpx

    from orchestrator.data import DataSpace
    from orchestrator.model import Json

    Run = Callable[..., Awaitable[Any]]

_T = TypeVar("_T")

# How many calls of one run are refused with ``AgentStopped``; the next is cancelled.
PATIENCE = 10

# Those of the run at hand.
_refused: ContextVar[list[None]] = ContextVar("quiesce_gofannon_refused")

# The namespace of ``data_store``, which all agents of one owner share.
NAMESPACE = "default"


class AgentStopped(OrchestratorError):
    """This run is to stop, so nothing was done. Clean up, and let this pass."""


def should_stop() -> bool:
    """Return whether the run that the calling code works for is to stop. Not a checkpoint."""
    return current_context().should_stop


async def call_llm(
    provider: str = "",
    model: str | None = None,
    messages: str | Sequence[Mapping[str, Any]] = "",
    parameters: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[str, None]:
    """Ask a model; see ``Context.llm``.

    Args:
        provider: who has the model is said by ``QUIESCE_LLM_BASE_URL``, so this is not used.

    Returns:
        what it answered, and None where Gofannon has the model's thoughts.

    Raises:
        AgentStopped: the run is to stop.
    """
    asked = dict(parameters or {})
    reply = await _through(lambda ctx: ctx.llm(messages, model=model, tools=tools or (), **asked))
    return str(reply), None


class DataStore:
    """Keys and JSON values that all agents of one owner share; see ``Context.data``.

    Other than Gofannon's, its methods are to be awaited. Each raises ``AgentStopped``.
    """

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace

    def use_namespace(self, namespace: str) -> DataStore:
        """Return the store of another namespace. Not a checkpoint."""
        return DataStore(namespace)

    async def get(self, key: str, default: Json = None) -> Json:
        """Return the value of a key, or the default."""
        return await _through(lambda ctx: self._space(ctx).get(key, default))

    async def set(self, key: str, value: Json) -> None:
        """Set the value of a key; it is durable when this returns."""
        await _through(lambda ctx: self._space(ctx).set(key, value))

    async def delete(self, key: str) -> bool:
        """Remove a key; return whether it was there."""
        return await _through(lambda ctx: self._space(ctx).delete(key))

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return keys in their order, at most a thousand."""
        return await _through(lambda ctx: self._space(ctx).list(prefix))

    async def get_many(self, keys: Sequence[str]) -> dict[str, Json]:
        """Return the values of keys, None for those that are not there."""
        return {key: await self.get(key) for key in keys}

    async def set_many(self, values: Mapping[str, Json]) -> None:
        """Set one key after the other."""
        for key, value in values.items():
            await self.set(key, value)

    def _space(self, context: Context) -> DataSpace:
        return context.data.namespace(self._namespace)


class GofannonClient:
    """Calls other agents, as sub-agents: they stop with the one that calls them."""

    async def call(self, agent_name: str, input_dict: Mapping[str, Any] | None = None) -> Any:
        """Run another agent and return what it returns; errors as for ``Context.call``.

        Raises:
            AgentStopped: the run is to stop.
        """
        given = dict(input_dict or {})
        return await _through(lambda ctx: ctx.call(agent_name, **given), leaf=False)


class HttpClient:
    """The run's own HTTP client, whose requests are operations."""

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Make a request; ``options`` as for ``httpx``.

        Raises:
            AgentStopped: the run is to stop.
        """
        options.setdefault("follow_redirects", True)
        return await _through(lambda ctx: ctx.request(method, url, **options))

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """``request("GET", …)``."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """``request("POST", …)``."""
        return await self.request("POST", url, **options)

    async def aclose(self) -> None:
        """Close its connections; works during a stop too, and may be called twice."""
        await current_context().http.aclose()


data_store = DataStore()
gofannon_client = GofannonClient()
http_client = HttpClient()


def as_agent(run: Run, *, name: str | None = None, **options: Any) -> Agent:
    """Make an agent of Gofannon's ``async def run(input_dict, tools)``.

    Args:
        name: what ``gofannon_client`` calls it; the function's name if left out.
        options: defaults for its runs.
    """
    with_tools = len(inspect.signature(run).parameters) > 1

    async def play(ctx: Context, **input_dict: Any) -> Any:
        _refused.set([])
        try:
            return await (run(input_dict, {}) if with_tools else run(input_dict))
        except* AgentStopped:
            pass
        # What has unwound the code in Gofannon's way goes on in Trio's.
        await trio.lowlevel.checkpoint()
        raise AgentStopped

    play.__doc__ = run.__doc__
    return Agent(play, name=name or run.__name__, options=options)


async def _through(work: Callable[[Context], Awaitable[_T]], *, leaf: bool = True) -> _T:
    """Make a call, unless the run is to stop.

    Args:
        leaf: it is an operation, whose result is returned if it was in flight then.
    """
    context = current_context()
    if context.should_stop:
        await _refuse()
    with settling() if leaf else nullcontext():
        return await work(context)


async def _refuse() -> NoReturn:
    """Raise ``AgentStopped``; but to code that does not hear it, what nothing can catch."""
    refused = _refused.get([])
    refused.append(None)
    if len(refused) > PATIENCE:
        await trio.lowlevel.checkpoint()
    await trio.lowlevel.cancel_shielded_checkpoint()
    raise AgentStopped
