"""For how long executions are kept, who owns a job by a wallet, and who is told of its end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from email import message_from_string
from typing import TYPE_CHECKING, Any

import httpx
import trio

from api.app import create_app
from api.auth import Access
from api.auth.sections import Rules
from api.auth.tokens import Tokens
from api.service import open_server
from api.webhooks import Outbox
from api.webhooks import Rules as WebhookRules
from orchestrator import open_orchestrator
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook
from tests.api.auth.people import PEOPLE, access, token_of
from tests.api.auth.test_wallets import STRANGER, WALLET, sign
from tests.api.webhooks.receiver import SECRET, mailbox, receiving
from tests.api.webhooks.test_addresses import LOOPBACK
from tests.api.webhooks.test_mail import settings
from tests.api.webhooks.test_outbox import sending, until_empty
from tests.orchestrator.test_retention import virtual_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from tests.api.processes import Site

BOUND_S = 30
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


@asynccontextmanager
async def logged_in(url: str, wallet: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has shown whose wallet it has."""
    async with httpx.AsyncClient(base_url=url, headers={"Origin": url}, timeout=30) as client:
        address = {"address": wallet.address}
        challenge = (await client.post("/session/challenge", json=address)).json()["message"]
        login = {**address, "signature": sign(challenge, wallet)}
        entered = await client.post("/session", json=login)
        assert entered.status_code == 200, entered.text
        yield client


async def test_J3_a_job_belongs_to_the_wallet_that_signed(site: Site) -> None:
    wallets = {
        WALLET.address.lower(): PEOPLE["owner"],
        STRANGER.address.lower(): PEOPLE["other"],
    }
    allowed = Access(Rules([Tokens([])], wallets=wallets))
    with trio.fail_after(BOUND_S):
        async with (
            open_orchestrator(agents=[job]) as orchestrator,
            open_server(orchestrator, access=allowed, dialects=["beacon"]) as url,
            logged_in(url, WALLET) as owner,
            logged_in(url, STRANGER) as stranger,
            httpx.AsyncClient(base_url=url) as nobody,
        ):
            started = await owner.post("/api/v1/jobs", json=order(site))
            assert started.status_code == 202, started.text
            job_id = started.json()["job_id"]
            assert (await orchestrator.get(job_id)).owner == "olga"
            path = f"/api/v1/jobs/{job_id}/cancel"
            assert (await nobody.post(path)).status_code == 401
            assert (await nobody.post("/api/v1/jobs", json=order(site))).status_code == 401
            assert (await stranger.post(path)).status_code == 403
            live = orchestrator.live(job_id)
            assert live is not None
            assert live.record.stop is None
            cancelled = await owner.post(path)
            assert (cancelled.status_code, cancelled.json()["new_status"]) == (200, "cancelled")
            receipt = (await owner.get(f"/runs/{job_id}/stop")).json()
            assert (receipt["source"], receipt["requested_by"]) == ("user", "olga")
            assert (await owner.post(path)).status_code == 409


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


async def test_J6_an_admin_cancels_anybodys_job(site: Site) -> None:
    """Also one that is too far for its owner."""
    with trio.fail_after(BOUND_S):
        async with (
            open_orchestrator(agents=[job]) as orchestrator,
            open_server(orchestrator, access=access(), dialects=["beacon"]) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):

            async def ask(name: str, path: str, **more: Any) -> httpx.Response:
                headers = {"Authorization": f"Bearer {token_of(name)}"}
                return await client.post(path, headers=headers, **more)

            site.answers.release()
            far = order(site, regions=["eu", "us"], no_stop_after_percent=50)
            job_id = (await ask("owner", "/api/v1/jobs", json=far)).json()["job_id"]
            path = f"/api/v1/jobs/{job_id}/cancel"
            while (await orchestrator.get(job_id)).progress.percent < 50:
                await trio.sleep(0.01)
            assert (await ask("owner", path)).status_code == 409
            assert (await ask("other", path)).status_code == 403
            assert (await ask("admin", path)).json()["new_status"] == "cancelled"
            receipt = (await orchestrator.get(job_id)).stop
            assert receipt is not None
            assert (receipt.source, receipt.requested_by) == ("admin", "ada")
