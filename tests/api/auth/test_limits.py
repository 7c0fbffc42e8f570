"""How often somebody may start runs, and an address may be wrong about who it is."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.auth import Access
from api.auth.file import BadTokensFile, read_rules
from api.auth.limits import MOST_BUCKETS, Buckets, household_of
from api.auth.proxy import Proxies
from api.auth.sections import Limits, Rules
from tests.api.agents import sleeper
from tests.api.auth.people import Asking, access, token_of

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator import Orchestrator


async def test_a_bucket_holds_a_minute_and_fills_up_evenly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    buckets = Buckets()
    assert [buckets.take("a", 6) for _ in range(6)] == [0] * 6
    assert buckets.take("a", 6) == buckets.wait_s("a", 6) == 10
    assert buckets.take("b", 6) == 0
    await trio.sleep(9)
    assert buckets.take("a", 6) == pytest.approx(1)
    await trio.sleep(1.001)
    assert buckets.take("a", 6) == 0
    assert buckets.take("a", 6) == pytest.approx(10, abs=0.01)
    await trio.sleep(3_600)
    assert [buckets.take("a", 6) for _ in range(7)].count(0) == 6


async def test_looking_takes_nothing() -> None:
    buckets = Buckets()
    assert {buckets.wait_s("a", 1) for _ in range(10)} == {0}
    assert buckets.take("a", 1) == 0


async def test_there_are_only_so_many_buckets() -> None:
    buckets = Buckets()
    for n in range(MOST_BUCKETS + 10):
        buckets.take(str(n), 1)
        buckets.take("often", 1)
    assert len(buckets._buckets) == MOST_BUCKETS
    assert buckets.wait_s("often", 1) > 0
    assert buckets.wait_s("0", 1) == 0


@pytest.mark.parametrize(
    ("address", "household"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_network_is_one_household(address: str, household: str) -> None:
    assert household_of(address) == household


def limited(**limits: Any) -> Access:
    before = access().rules
    assert before is not None
    proxies = Proxies([ip_network("0.0.0.0/32")])
    return Access(Rules(before.authenticators, proxies=proxies, limits=Limits(**limits)))


async def statuses(asking: Asking, call: str, name: str, times: int, **more: Any) -> list[int]:
    return [(await asking.ask(call, name, **more)).status_code for _ in range(times)]


async def test_an_address_with_too_many_bad_tokens_is_not_listened_to(
    orchestrator: Orchestrator, autojump_clock: trio.testing.MockClock
) -> None:
    asking = Asking(orchestrator, limited(bad_tokens_per_minute=3))
    assert await statuses(asking, "GET /runs", "nobody", 4) == [401, 401, 401, 429]
    refused = await asking.ask("GET /runs", "viewer")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "20"
    assert (await refused.get_json())["type"] == "urn:quiesce:too-often"
    login = {"token": token_of("viewer")}
    assert await statuses(asking, "POST /session", "", 1, body=login) == [429]
    # Without a token there is nothing to guess.
    assert await statuses(asking, "GET /runs", "", 5) == [401] * 5
    assert await statuses(asking, "GET /healthz", "", 1) == [200]
    await trio.sleep(21)
    assert await statuses(asking, "GET /runs", "viewer", 20) == [200] * 20
    assert await statuses(asking, "GET /runs", "nobody", 2) == [401, 429]


async def test_bad_logins_count_as_well(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, limited(bad_tokens_per_minute=2))
    bodies = [{"token": "wrong"}, {"address": "0x" + "1" * 40, "signature": "0x" + "1" * 130}]
    for body in bodies:
        assert await statuses(asking, "POST /session", "", 1, body=body) == [401]
    assert await statuses(asking, "POST /session", "", 1, body=bodies[0]) == [429]


async def test_an_old_cookie_is_no_guess(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, limited(bad_tokens_per_minute=1))
    cookie = {"Cookie": "quiesce_session=old"}
    assert await statuses(asking, "GET /runs", "", 5, headers=cookie) == [401] * 5
    assert await statuses(asking, "GET /runs", "viewer", 1) == [200]


async def test_somebody_may_start_so_many_runs_in_a_minute(
    orchestrator: Orchestrator, autojump_clock: trio.testing.MockClock
) -> None:
    orchestrator.agents.get(sleeper)
    asking = Asking(orchestrator, limited(starts_per_minute=3))
    body = {"agent": "sleeper"}
    assert await statuses(asking, "POST /runs", "owner", 3, body=body) == [201] * 3
    refused = await asking.ask("POST /runs", "owner", body=body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "20")
    ended = orchestrator.registry.roots()[0]
    await ended.stop()
    assert await statuses(asking, f"POST /runs/{ended.id}/rerun", "owner", 1) == [429]
    # It is about starts, and about nobody else's.
    assert await statuses(asking, f"POST /runs/{ended.id}/stop", "owner", 5) == [200] * 5
    assert await statuses(asking, "POST /runs", "other", 3, body=body) == [201] * 3
    await trio.sleep(20.1)
    assert await statuses(asking, "POST /runs", "owner", 2, body=body) == [201, 429]


async def test_starts_that_are_too_many_are_counted_in_the_audit(
    orchestrator: Orchestrator,
) -> None:
    asking = Asking(orchestrator, limited(starts_per_minute=1))
    await statuses(asking, "POST /runs", "owner", 20, body={"agent": "nobody"})
    await orchestrator.durable(orchestrator.keep("another", "key", None))
    found = await (await asking.ask("GET /audit", "admin")).get_json()
    told = [(each["result"], each["count"]) for each in found["audit"]]
    assert told == [("too-often", 16), ("invalid-input", 1)]


@pytest.mark.slow
async def test_without_authentication_nothing_is_counted(orchestrator: Orchestrator) -> None:
    orchestrator.agents.get(sleeper)
    asking = Asking(orchestrator, Access())
    asked = await statuses(asking, "POST /runs", "", 700, body={"agent": "nobody"})
    assert set(asked) == {422}


def test_the_file_says_how_often(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    token = '[[token]]\nprincipal = "a"\nrole = "viewer"\ntoken = "long-enough-to-be-a-token"\n'
    path.write_text(token + "[limits]\nstarts_per_minute = 7\n")
    assert read_rules(path, ()).limits == Limits(starts_per_minute=7, bad_tokens_per_minute=10)
    path.write_text(token + "[limits]\nstarts_per_minute = 0\n")
    with pytest.raises(BadTokensFile, match=r"line 6.*greater than or equal to 1"):
        read_rules(path, ())
