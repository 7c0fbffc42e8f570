"""For how long executions are kept, and who is told of the end of a job."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from email import message_from_string
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.app import create_app
from orchestrator import open_orchestrator
from orchestrator.agents.playbook import playbook
from tests.api.webhooks.receiver import SECRET, mailbox, receiving
from tests.dialects.executions import BOUND_S, do, get, serving, start, status
from tests.orchestrator.test_retention import virtual_now

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.api.processes import Site

BOOK = "name: a\nsteps: [{id: a, type: wait, parameters: {seconds: 7200}}]"


# Who is told of what.
TOLD = """
secret = "{secret}"

[mail]
host = "127.0.0.1"
port = {port}
sender = "q@example.org"
tls = "none"

[[rule]]
url = "{url}"
agents = ["job"]
statuses = ["stopped"]

[[rule]]
url = "mailto:ops@example.org"
agents = ["job"]
"""


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


@pytest.mark.slow
def test_E3_a_server_removes_what_ended_half_an_hour_ago(site: Site, tmp_path: Path) -> None:
    """Half an hour passes while it is down: what is stored is made to look so much older."""
    with serving(tmp_path, "--dialect", "ignition") as (http, process):
        executions = [start(http, [get("a", f"{site.url}/a")]) for _ in range(2)]
        site.wait_for("asked", 2)
        assert {do(http, each, "cancel").status_code for each in executions} == {200}
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    with closing(sqlite3.connect(tmp_path / "quiesce.db", isolation_level=None)) as store:
        for execution, older_s in zip(executions, (1_810, 1_700), strict=True):
            change = "UPDATE runs SET expires_s = expires_s - ? WHERE id = ?"
            assert store.execute(change, [older_s, execution]).rowcount == 1
    with serving(tmp_path, "--dialect", "ignition") as (http, _):
        ends = time.monotonic() + BOUND_S
        while http.get(f"/api/executions/{executions[0]}").status_code != 404:
            assert time.monotonic() < ends
            time.sleep(0.05)  # another process: there is no event to wait for
        assert status(http, executions[1]) == "cancelled"


@pytest.mark.slow
def test_J6_the_end_of_a_job_is_told_by_webhook_and_by_mail(site: Site, tmp_path: Path) -> None:
    with receiving() as receiver, mailbox() as box:
        (tmp_path / "webhooks.toml").write_text(
            TOLD.format(secret=SECRET, url=receiver.url, port=box.port)
        )
        (tmp_path / "webhooks.toml").chmod(0o600)
        options = ["--webhooks", "webhooks.toml", "--webhooks-allow", "127.0.0.0/8"]
        with serving(tmp_path, "--dialect", "beacon", *options) as (http, process):
            wanted = {"name": "n", "questions": [1], "models": ["m"], "regions": ["r"]}
            order = {**wanted, "endpoint": f"{site.url}/"}
            job_id = http.post("/api/v1/jobs", json=order).json()["job_id"]
            site.wait_for("asked", 1)
            cancelled = http.post(f"/api/v1/jobs/{job_id}/cancel", json={"reason": "too dear"})
            assert cancelled.status_code == 200
            # As it closes, it tells what is still to be told.
            process.signal(signal.SIGTERM)
            assert process.end() == 0
        receiver.verify()
        (told,) = receiver.told
        assert (told["type"], told["data"]["id"]) == ("run.stopped", job_id)
        assert told["data"]["stop"]["reason"] == "too dear"
        (mail,) = box.got
        assert message_from_string(mail)["Subject"] == f"job stopped: {job_id}"
