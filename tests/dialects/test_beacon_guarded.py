"""Beacon behind tokens and wallets: a real server that knows who asks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest

from tests.api.auth.test_wallets import STRANGER, WALLET, sign
from tests.api.processes import Site, quiesce
from tests.dialects.test_beacon import BOUND_S, cancel, start

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

PEOPLE = f"""
[[wallet]]
address = "{WALLET.address}"
principal = "olga"
role = "operator"

[[wallet]]
address = "{STRANGER.address}"
principal = "otto"
role = "operator"

[[token]]
token = "of-ada-who-may-do-everything"
principal = "ada"
role = "admin"
"""


class Callers(NamedTuple):
    """Clients of one server: of two who have signed with their wallets, an admin, and nobody."""

    owner: httpx.Client
    stranger: httpx.Client
    admin: httpx.Client
    nobody: httpx.Client


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    """A server that asks who they are, and they."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "people.toml").write_text(PEOPLE)
    (folder / "people.toml").chmod(0o600)
    options = ["--port", "0", "--dialect", "beacon", "--tokens", "people.toml"]
    with quiesce("serve", *options, cwd=folder) as process:
        url = process.until("listening").split()[-1]
        token = {"Authorization": "Bearer of-ada-who-may-do-everything"}
        found = Callers(
            log_in(url, WALLET),
            log_in(url, STRANGER),
            httpx.Client(base_url=url, headers=token, timeout=30),
            httpx.Client(base_url=url, timeout=30),
        )
        yield found
        for client in found:
            client.close()


def log_in(url: str, wallet: Any) -> httpx.Client:
    """Return a client that has shown whose wallet it has."""
    client = httpx.Client(base_url=url, headers={"Origin": url}, timeout=30)
    address = {"address": wallet.address}
    message = client.post("/session/challenge", json=address).json()["message"]
    entered = client.post("/session", json={**address, "signature": sign(message, wallet)})
    assert entered.status_code == 200, entered.text
    return client


def test_J3_a_job_is_cancelled_by_the_wallet_that_started_it_alone(
    callers: Callers, site: Site
) -> None:
    job_id = start(callers.owner, site, models=["m"], regions=["r"])
    site.wait_for("asked", 1)
    assert callers.nobody.post("/api/v1/jobs", json={}).status_code == 401
    unknown = cancel(callers.nobody, job_id)
    assert (unknown.status_code, unknown.headers["WWW-Authenticate"]) == (
        401,
        'Bearer realm="quiesce"',
    )
    assert cancel(callers.stranger, job_id).status_code == 403
    assert cancel(callers.stranger, "bias-detection-123").status_code == 404
    assert site.left == 0
    assert callers.owner.get(f"/runs/{job_id}").json()["stop"] is None

    said = cancel(callers.owner, job_id)

    assert (said.status_code, said.json()["new_status"]) == (200, "cancelled")
    site.wait_for("left", 1)
    assert cancel(callers.owner, job_id).status_code == 409
    noted = callers.admin.get("/audit", params={"run": job_id}).json()["audit"]
    assert [(each["action"], each["principal"], each["result"]) for each in noted[:3]] == [
        ("stop", "olga", "run-ended"),
        ("stop", "olga", "ok"),
        ("stop", "otto", "forbidden"),
    ]


def test_J6_an_admin_cancels_a_job_that_its_owner_cannot_any_more(
    callers: Callers, site: Site
) -> None:
    site.answers.release()
    job_id = start(
        callers.owner, site, models=["m"], regions=["eu", "us"], no_stop_after_percent=50
    )
    ends = time.monotonic() + BOUND_S
    while callers.owner.get(f"/runs/{job_id}").json()["progress"]["percent"] < 50:
        assert time.monotonic() < ends
        time.sleep(0.05)  # another process: there is no event to wait for
    refused = cancel(callers.owner, job_id)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:quiesce:too-late-to-stop")
    assert cancel(callers.stranger, job_id).status_code == 403
    assert cancel(callers.admin, job_id, reason="a refund was promised").status_code == 200
    site.wait_for("left", 1)
    receipt = callers.owner.get(f"/runs/{job_id}/stop").json()
    told = (receipt["source"], receipt["requested_by"], receipt["reason"])
    assert told == ("admin", "ada", "a refund was promised")
