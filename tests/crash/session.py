"""A scripted session of an orchestrator with everything that writes, over HTTP, to be killed in.

Whatever is shown or acknowledged is told to ``say`` in that very step: every event with the status
that goes with it, every run in an answer, and what agents were told is durable.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import trio

from api.service import open_server
from orchestrator import Context, Observer, agent, open_orchestrator
from orchestrator.clock import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator import Event, RunRecord

Say: TypeAlias = "Callable[..., None]"

# Above the size from which an artifact is a file.
LARGE = 70 * 1024


class _Mouth:
    """Where agents say what they were told is durable; they have no other way to it."""

    say: Say = staticmethod(lambda **_: None)


MOUTH = _Mouth()


@agent
async def worker(ctx: Context) -> None:
    """Do short operations for ever."""
    ctx.on_stop(ctx.log, "compensated")
    while True:
        async with ctx.operation("work"):
            await trio.sleep(0.05)


@agent
async def family(ctx: Context) -> None:
    """Have sub-agents that never end, and one that does."""
    await ctx.call(brief)
    await ctx.map(worker, [{}, {}])


@agent
async def brief(ctx: Context) -> str:
    """End at once."""
    await ctx.progress(50, "half")
    return "done"


@agent
async def keeper(ctx: Context) -> str:
    """Keep things of every kind, then wait until stopped."""
    # So that there is a while between the stop and the end.
    ctx.on_stop(trio.sleep, 0.05)
    for n in range(3):
        value = await ctx.step(f"step {n}", lambda n=n: n * n)
        MOUTH.say(step=[ctx.run_id, f"step {n}", value])
    await ctx.partial({"so": "far"})
    await ctx.artifact("small", b"s" * 100)
    await ctx.artifact("large", b"l" * LARGE)
    await ctx.artifact("large", b"m" * 1000, append=True)
    await ctx.log("kept")
    for key in ("kept", "dropped"):
        MOUTH.say(setting=[key, ctx.run_id])
        await ctx.data.set(key, ctx.run_id)
        MOUTH.say(set=[key, ctx.run_id])
    MOUTH.say(setting=["dropped", None])
    await ctx.data.delete("dropped")
    MOUTH.say(set=["dropped", None])
    await ctx.sleep(1000)
    return "never"


@agent
async def asker(ctx: Context) -> str:
    """Ask a person."""
    answer: str = await ctx.ask("Go on?", str)
    MOUTH.say(answered=[ctx.run_id, answer])
    return answer


@agent
async def failing(ctx: Context) -> None:
    """Fail."""
    raise RuntimeError("as it should")


ALL = [worker, family, brief, keeper, asker, failing]


class Ear(Observer):
    """Says whatever is shown to anybody, in the step in which it may be shown."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._shown: set[tuple[str, str]] = set()
        self._more = trio.Event()

    def shown(self, event: Event, record: RunRecord) -> None:
        """See ``Observer``."""
        said = [event.root_id, event.seq, event.run_id, event.type]
        self._say(event=said, run=record.id, status=record.status, attempt=record.attempt)
        self._shown.add((event.run_id, event.type))
        self._shown.add(("", f"{event.type} of {record.agent}"))
        self._more.set()
        self._more = trio.Event()

    async def until(self, run_id: str, type_: str) -> None:
        """Wait until such an event of a run was shown."""
        while (run_id, type_) not in self._shown:
            await self._more.wait()


class Clock:
    """The wall clock, which may be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self, seconds: float) -> str:
        """The time so many seconds from now."""
        return utc_now(seconds + self.ahead_s)

    def set_before_a_second(self, by_s: float) -> None:
        """Set it to just before a full second, at which schedules fire."""
        self.ahead_s += 1 - by_s - (time.time() + self.ahead_s) % 1


class Client:
    """Asks, and says what was answered."""

    def __init__(self, http: httpx.AsyncClient, ear: Ear, say: Say) -> None:
        self._http = http
        self._ear = ear
        self._say = say

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask for something that must be granted, and return the answer."""
        discarding = body["ids"] if body and body.get("discard") else []
        self._say(asking=[method, path], discarding=discarding)
        answer = await self._http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        found = answer.json() if answer.content else {}
        self._say(granted=[method, path])
        if discarding:
            self._say(discarded=discarding)
        for run in [found, found.get("run", {}), *[each["run"] for each in _results(found)]]:
            if "available_actions" in run:
                self._hear(run)
        return found

    def _hear(self, run: dict[str, Any]) -> None:
        known = {name: run[name] for name in ("tags", "deadline_at", "ended_at", "result")}
        stop = run["stop"] and run["stop"]["outcome"]
        said = {"run": run["id"], "status": run["status"], "attempt": run["attempt"], "stop": stop}
        self._say(**said, whole=known)

    async def start(self, agent: str, **options: Any) -> str:
        """Start a run and return its id."""
        order = {"agent": agent, "options": {"tags": ["scripted"]} | options}
        run_id: str = (await self.ask("POST", "/runs", order))["id"]
        return run_id

    async def until(self, run_id: str, type_: str) -> dict[str, Any]:
        """Wait for an event of a run, and look at the run."""
        await self._ear.until(run_id, type_)
        return dict(await self.ask("GET", f"/runs/{run_id}"))

    async def until_any(self, type_: str, agent: str) -> None:
        """Wait for an event of any run of an agent."""
        await self._ear.until("", f"{type_} of {agent}")


def _results(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in found.get("results", []) if each.get("run")]


async def session(store: str, say: Say) -> None:
    """Play the whole script, once."""
    clock, ear = Clock(), Ear(say)
    MOUTH.say = say
    async with (
        open_orchestrator(
            store, agents=ALL, observers=[ear], now=clock.now, max_running=8
        ) as orchestrator,
        open_server(orchestrator) as url,
        # Without certificates: to load them takes longer than all the rest.
        httpx.AsyncClient(base_url=url, verify=False, timeout=30) as http,
    ):
        client = Client(http, ear, say)
        for scene in (_schedules, _stops, _pauses, _keeps, _waits, _halts):
            await scene(client, clock)


async def _schedules(client: Client, clock: Clock) -> None:
    clock.set_before_a_second(0.02)
    order = {"agent": "brief", "cron": "* * * * * *", "id": "often", "overlap": "allow"}
    await client.ask("POST", "/schedules", order)
    path = "/schedules/often"
    await client.until_any("run.succeeded", "brief")
    await client.ask("POST", f"{path}/pause")
    await client.ask("POST", f"{path}/resume")
    await client.ask("DELETE", path)
    await client.ask("POST", "/schedules", order | {"id": "kept", "cron": "0 0 1 1 *"})


async def _stops(client: Client, clock: Clock) -> None:
    one, two = await client.start("worker"), await client.start("family", on_crash="restart")
    third, fourth = await client.start("worker"), await client.start("keeper")
    await client.until(fourth, "operation.finished")
    await client.ask("POST", "/runs/stop", {"ids": [third, fourth], "discard": True})
    await client.ask("POST", f"/runs/{one}/stop", {"grace_s": 1, "reason": "enough"})
    await client.ask("POST", f"/runs/{two}/stop", {"mode": "now", "wait_s": 5})
    await client.until(fourth, "run.stopped")
    await client.ask("DELETE", f"/runs/{third}")
    failed = await client.start("failing")
    await client.until(failed, "run.failed")
    again = (await client.ask("POST", f"/runs/{failed}/rerun"))["id"]
    await client.until(again, "run.failed")


async def _pauses(client: Client, clock: Clock) -> None:
    tree, fast = await client.start("family"), await client.start("worker", on_crash="restart")
    await client.ask("POST", f"/runs/{tree}/pause")
    await client.ask("POST", f"/runs/{fast}/pause")
    await client.until(fast, "run.paused")
    await client.ask("POST", f"/runs/{fast}/step")
    await client.ask("POST", f"/runs/{fast}/resume")
    await client.ask("PATCH", f"/runs/{fast}", {"deadline_s": 10 * 86_400, "tags": ["other"]})
    await client.ask("POST", f"/runs/{tree}/resume")
    await client.ask("POST", f"/runs/{tree}/stop", {"mode": "kill", "wait_s": 5})


async def _keeps(client: Client, clock: Clock) -> None:
    asking = await client.start("asker", on_crash="restart")
    run = await client.until(asking, "run.asked")
    answer = {"question_id": run["waiting_for"]["question_id"], "answer": "yes"}
    await client.ask("POST", f"/runs/{asking}/answer", answer)
    await client.until(asking, "run.succeeded")
    keeping = await client.start("keeper", on_crash="restart")
    await client.until(keeping, "operation.finished")
    await client.ask("POST", f"/runs/{keeping}/stop", {"wait_s": 5})
    again = await client.ask("POST", f"/runs/{keeping}/rerun", {"from_step": "last"})
    await client.ask("POST", f"/runs/{again['id']}/stop", {"wait_s": 5})
    await client.ask("DELETE", f"/runs/{keeping}")


async def _waits(client: Client, clock: Clock) -> None:
    late, soon = (
        await client.start("brief", start_after_s=3600),
        await client.start("brief", start_after_s=0.05),
    )
    await client.until(soon, "run.succeeded")
    await client.ask("POST", f"/runs/{late}/stop")
    first = await client.start("worker", key="k", on_conflict="enqueue")
    second = await client.start("worker", key="k", on_conflict="enqueue")
    await client.ask("POST", f"/runs/{first}/stop", {"mode": "now", "wait_s": 5})
    await client.until(second, "run.started")
    third = await client.start("worker", key="k", on_conflict="stop_previous")
    await client.until(third, "run.started")


async def _halts(client: Client, clock: Clock) -> None:
    await client.start("brief", start_after_s=3600)
    await client.ask("POST", "/halt", {"mode": "now", "wait_s": 5, "reason": "all of it"})
    await client.ask("DELETE", "/halt")
    await client.start("worker")
    await client.start("brief", start_after_s=3600)
