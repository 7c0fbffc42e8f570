"""What a client may ask of a server: each call as a value, with what its answer means.

Nothing here sends anything. ``Client`` and ``AsyncClient`` make the same calls and differ only in
how they wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from api.transport import path_of
from orchestrator import ArtifactInfo, InvalidInput, RunId, RunRecord, StopMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx

_RECORD = TypeAdapter(RunRecord)
_Answer = TypeVar("_Answer", covariant=True)

# Asked twice they do what they do once; a start does with a key.
_SAFE_TWICE = frozenset(("GET", "DELETE", "PUT"))


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as a server shows it.

    Attributes:
        partial: its latest partial result; None in lists and in the answer to a stop.
        json: the whole answer as it came.
    """

    record: RunRecord
    partial: Any
    json: dict[str, Any]

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.record.id


@dataclass(frozen=True, slots=True)
class StopResult:
    """What became of one run of a stop of many.

    Attributes:
        status: as of a stop of this run alone: 202 while it is stopping, 200 once it has.
        run: None if there is none, or it may not be seen.
        problem: why it was not stopped; None if it was.
    """

    run_id: str
    status: int
    run: RunView | None
    problem: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ask(Generic[_Answer]):
    """One call.

    Attributes:
        read: returns what the answer means; raises ValueError, KeyError or TypeError for one that
            no server of ours gives.
        wait_s: how long the server may take on purpose.
        key: under which the server does it once, however often it is asked.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], _Answer]
    query: Mapping[str, str | None] = field(default_factory=dict)
    body: Any = None
    wait_s: float = 0
    key: str | None = None

    @property
    def repeatable(self) -> bool:
        """Whether asking twice does what asking once does."""
        return self.method in _SAFE_TWICE or self.key is not None


def view_of(answer: dict[str, Any]) -> RunView:
    """Return the run that an answer shows.

    Raises:
        ValueError: it shows none.
    """
    match answer:
        case {"waiting_for": {"question_id": question_id} as question}:
            fields = {**answer, "waiting_for": {**question, "id": question_id}}
        case _:
            fields = answer
    record = _RECORD.validate_python(fields | {"retagged": fields.get("tags")})
    return RunView(record, answer.get("partial"), answer)


def _view(response: httpx.Response) -> RunView:
    return view_of(_object(response))


def _object(response: httpx.Response) -> dict[str, Any]:
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError("an answer of ours is an object")
    return found


def agents() -> Ask[list[dict[str, Any]]]:
    """List the agents."""
    return Ask("GET", "/agents", lambda response: list(_object(response)["agents"]))


def start(
    agent: str,
    given: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
    key: str | None,
) -> Ask[RunView]:
    """Start a run."""
    order = {"agent": agent, "input": dict(given or {}), "options": dict(options or {})}
    return Ask("POST", "/runs", _view, body=order, key=key)


def runs(
    after: str | None, limit: int, brief: bool, where: Mapping[str, str | None]
) -> Ask[tuple[list[RunView], str | None]]:
    """List runs."""

    def read(response: httpx.Response) -> tuple[list[RunView], str | None]:
        page = _object(response)
        return [view_of(each) for each in page["runs"]], page["next"]

    page = {"after": after, "limit": str(limit), "brief": "true" if brief else None}
    return Ask("GET", "/runs", read, query={**page, **where})


def get(run_id: str, wait_s: float) -> Ask[RunView]:
    """Show a run."""
    query = {"wait_s": str(wait_s)} if wait_s else {}
    return Ask("GET", path_of(run_id), _view, query=query, wait_s=wait_s)


def tree(run_id: str) -> Ask[list[RunView]]:
    """Show a run and its sub-agents, parents before children."""

    def read(response: httpx.Response) -> list[RunView]:
        found = [_object(response)]
        for node in found:
            found.extend(node["children"])
        return [view_of(node) for node in found]

    return Ask("GET", path_of(run_id, "tree"), read)


def stop(
    run_id: str,
    mode: StopMode | str,
    grace_s: float | None,
    reason: str,
    wait_s: float,
    *,
    discard: bool,
) -> Ask[RunView]:
    """Stop a run."""
    return Ask(
        "POST",
        path_of(run_id, "stop"),
        lambda response: view_of(_object(response)["run"]),
        body=_stop_order(mode, grace_s, reason, wait_s, discard=discard),
        wait_s=wait_s,
    )


def stop_many(
    which: Mapping[str, Any],
    mode: StopMode | str,
    grace_s: float | None,
    reason: str,
    wait_s: float,
    *,
    discard: bool,
) -> Ask[list[StopResult]]:
    """Stop many runs; ``which`` has their ``ids``, or a ``filter``."""

    def read(response: httpx.Response) -> list[StopResult]:
        return [_result(each) for each in _object(response)["results"]]

    order = {**which, **_stop_order(mode, grace_s, reason, wait_s, discard=discard)}
    return Ask("POST", "/runs/stop", read, body=order, wait_s=wait_s)


def which_runs(ids: Sequence[str] | None, where: Mapping[str, str | None] | None) -> dict[str, Any]:
    """Return how a stop of many names them; the server refuses both, and neither.

    Raises:
        InvalidInput: a value of the filter is None, which must not become every run.
    """
    absent = [name for name, value in (where or {}).items() if value is None]
    if absent:
        why = "may not be None; give a value, or leave it out"
        raise InvalidInput([(f"where.{name}", why) for name in absent])
    named = {} if ids is None else {"ids": list(ids)}
    return named if where is None else {**named, "filter": dict(where)}


def _result(found: dict[str, Any]) -> StopResult:
    run = found["run"] if found["run"] is None else view_of(found["run"])
    return StopResult(found["run_id"], found["status_code"], run, found.get("problem"))


def _stop_order(
    mode: StopMode | str,
    grace_s: float | None,
    reason: str,
    wait_s: float,
    *,
    discard: bool = False,
) -> dict[str, Any]:
    order: dict[str, Any] = {"mode": StopMode(mode), "reason": reason, "wait_s": wait_s}
    if grace_s is not None:
        order["grace_s"] = grace_s
    return {**order, "discard": True} if discard else order


def control(
    run_id: str, verb: str, order: Mapping[str, Any], key: str | None = None
) -> Ask[RunView]:
    """Pause, resume, step or rerun a run, or answer its question."""
    return Ask("POST", path_of(run_id, verb), _view, body=dict(order), key=key)


def change(run_id: str, order: Mapping[str, Any]) -> Ask[RunView]:
    """Change the deadline or the tags of a run."""
    return Ask("PATCH", path_of(run_id), _view, body=dict(order))


def delete(run_id: str) -> Ask[None]:
    """Remove a run that has ended."""
    return Ask("DELETE", path_of(run_id), _nothing)


def artifacts(run_id: str) -> Ask[list[ArtifactInfo]]:
    """List the files of a run."""

    def read(response: httpx.Response) -> list[ArtifactInfo]:
        return [ArtifactInfo(**each) for each in _object(response)["artifacts"]]

    return Ask("GET", path_of(run_id, "artifacts"), read)


def artifact(run_id: str, name: str) -> Ask[bytes]:
    """Return a file of a run."""
    return Ask("GET", path_of(run_id, "artifacts", name), lambda response: response.content)


def deliveries(
    state: str | None, after: str | None, limit: int
) -> Ask[tuple[list[dict[str, Any]], str | None]]:
    """List webhook messages that have not arrived."""

    def read(response: httpx.Response) -> tuple[list[dict[str, Any]], str | None]:
        page = _object(response)
        return page["deliveries"], page["next"]

    query = {"state": state, "after": after, "limit": str(limit)}
    return Ask("GET", "/webhooks/deliveries", read, query=query)


def retry_delivery(delivery_id: str) -> Ask[dict[str, Any]]:
    """Try a webhook message now."""
    return Ask("POST", f"/webhooks/deliveries/{quote(delivery_id, safe='')}/retry", _object)


def halt(
    mode: StopMode | str, grace_s: float | None, reason: str, wait_s: float
) -> Ask[dict[str, Any]]:
    """Stop everything, and refuse starts."""
    order = _stop_order(mode, grace_s, reason, wait_s)
    return Ask("POST", "/halt", _object, body=order, wait_s=wait_s)


def halted() -> Ask[dict[str, Any]]:
    """Show the halt that is on."""
    return Ask("GET", "/halt", _object)


def lift() -> Ask[None]:
    """Let runs start again."""
    return Ask("DELETE", "/halt", _nothing)


def schedules() -> Ask[list[dict[str, Any]]]:
    """List the schedules."""
    return Ask("GET", "/schedules", lambda response: list(_object(response)["schedules"]))


def schedule(
    agent: str, given: Mapping[str, Any] | None, cron: str, more: Mapping[str, Any]
) -> Ask[dict[str, Any]]:
    """Make a schedule."""
    order = {"agent": agent, "input": dict(given or {}), "cron": cron, **more}
    return Ask("POST", "/schedules", _object, body=order)


def move_schedule(schedule_id: str, verb: str) -> Ask[dict[str, Any]]:
    """Pause or resume a schedule."""
    return Ask("POST", f"/schedules/{quote(schedule_id, safe='')}/{verb}", _object)


def unschedule(schedule_id: str) -> Ask[None]:
    """Forget a schedule."""
    return Ask("DELETE", f"/schedules/{quote(schedule_id, safe='')}", _nothing)


def _nothing(response: httpx.Response) -> None:
    if response.status_code != 204:
        raise ValueError("an answer of ours is empty, and says so")
