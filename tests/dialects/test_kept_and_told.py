"""For how long executions are kept, and who is told of the end of a job."""

from __future__ import annotations

from email import message_from_string
from typing import TYPE_CHECKING, Any

import httpx
import trio

from api.app import create_app
from api.service import open_server
from api.webhooks import Outbox
from api.webhooks import Rules as WebhookRules
from orchestrator import open_orchestrator
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook
from tests.api.webhooks.receiver import SECRET, mailbox, receiving
from tests.api.webhooks.test_addresses import LOOPBACK
from tests.api.webhooks.test_mail import settings
from tests.api.webhooks.test_outbox import sending, until_empty
from tests.orchestrator.test_retention import virtual_now

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.api.processes import Site

BOOK = "name: a\nsteps: [{id: a, type: wait, parameters: {seconds: 7200}}]"


def order(site: Site, **more: Any) -> dict[str, Any]:
    """Return the order of a job of one execution, which waits for its answer."""
    wanted = {"name": "n", "questions": [1], "models": ["m"], "regions": ["r"]}
    return {**wanted, "endpoint": f"{site.url}/", **more}


async def test_E3_a_record_is_removed_half_an_hour_after_the_end(
    autojump_clock: MockClock,
) -> None:
    """However long the execution takes, and however long others are kept."""
    opened = open_orchestrator(agents=[playbook], now=virtual_now, retention_s=90 * 86_400)
    async with opened as orchestrator:
        client: Any = create_app(orchestrator, dialects=["ignition"]).test_client()

        async def ask(method: str, path: str, **more: Any) -> Any:
            return await client.open(path, method=method, headers={"Host": "localhost"}, **more)

        async def status(execution: str) -> int:
            return int((await ask("GET", f"/api/executions/{execution}")).status_code)

        answer = await ask("POST", "/api/executions", json={"playbook": BOOK})
        execution = (await answer.get_json())["execution_id"]
        other = await orchestrator.start(playbook, {"playbook": BOOK})
        await other.stop()
        await trio.sleep(3_600)
        assert await status(execution) == 200
        assert (await ask("POST", f"/api/executions/{execution}/cancel")).status_code == 200
        await trio.sleep(1_795)
        assert await status(execution) == 200
        await trio.sleep(65)
        assert await status(execution) == 404
        assert await status(other.id) == 200


async def test_J6_the_end_of_a_job_is_told_by_webhook_and_by_mail(site: Site) -> None:
    with receiving() as receiver, mailbox() as box:
        rules = [
            {"url": receiver.url, "agents": ["job"], "statuses": ["stopped"]},
            {"url": "mailto:ops@example.org", "agents": ["job"]},
        ]
        given = {"secret": SECRET, "rule": rules, "mail": settings(box)}
        outbox = Outbox(WebhookRules.model_validate(given), LOOPBACK)
        async with sending(outbox) as orchestrator:
            orchestrator.agents.add(job)
            async with (
                open_server(orchestrator, dialects=["beacon"], outbox=outbox) as url,
                httpx.AsyncClient(base_url=url, timeout=30) as client,
            ):
                started = await client.post("/api/v1/jobs", json=order(site))
                job_id = started.json()["job_id"]
                path = f"/api/v1/jobs/{job_id}/cancel"
                assert (await client.post(path, json={"reason": "too dear"})).status_code == 200
                await receiver.until(1)
                await until_empty(orchestrator)
        receiver.verify()
        (told,) = receiver.told
        assert (told["type"], told["data"]["id"]) == ("run.stopped", job_id)
        (mail,) = box.got
        assert message_from_string(mail)["Subject"] == f"job stopped: {job_id}"
