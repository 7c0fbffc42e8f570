"""Every answer says what a browser must not do with it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from quart import Response

from api.auth import Access
from api.auth.proxy import Proxies
from api.auth.sections import Rules
from tests.api.agents import painter
from tests.api.auth.people import Asking, access, token_of

if TYPE_CHECKING:
    from orchestrator import Orchestrator

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("call", "name", "status"),
    [
        ("GET /runs", "viewer", 200),
        ("GET /runs", "", 401),
        ("GET /healthz", "", 200),
        ("GET /nowhere", "viewer", 404),
        ("PUT /runs", "viewer", 405),
        ("POST /runs", "viewer", 403),
        ("POST /runs", "owner", 422),
        ("DELETE /session", "", 204),
        ("GET /", "", 200),
        ("GET /dashboard/login", "", 200),
    ],
)
async def test_every_answer_is_hardened(
    orchestrator: Orchestrator, call: str, name: str, status: int
) -> None:
    answer = await Asking(orchestrator, access()).ask(call, name)
    assert answer.status_code == status
    assert {each: answer.headers.get(each) for each in EVERYWHERE} == EVERYWHERE
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert "Server" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers


async def test_a_page_may_do_what_our_pages_need(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, access())

    async def page() -> Response:
        return Response("<p>", content_type="text/html; charset=utf-8")

    asking.app.add_url_rule("/page", view_func=page)
    policy = (await asking.ask("GET /page", "admin")).headers["Content-Security-Policy"]
    said = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert said["default-src"] == "'none'"
    assert said["script-src"] == said["connect-src"] == said["style-src"] == "'self'"
    data = (await asking.ask("GET /runs", "viewer")).headers["Content-Security-Policy"]
    assert data == "default-src 'none'; frame-ancestors 'none'"


async def test_answers_are_not_kept_by_browsers_unless_they_say_so(
    orchestrator: Orchestrator,
) -> None:
    asking = Asking(orchestrator, access())
    assert (await asking.ask("GET /agents", "viewer")).headers["Cache-Control"] == "no-store"
    run = await orchestrator.start(painter, owner="olga")
    await run.wait()
    answer = await asking.ask(f"GET /runs/{run.id}", "viewer")
    assert answer.headers["Cache-Control"] == "no-cache"
    file = await asking.ask(f"GET /runs/{run.id}/artifacts/page.html", "viewer")
    assert "sandbox" in file.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "proto", "sent"),
    [
        ("quiesce.example", "https", True),
        ("quiesce.example:443", "https", True),
        ("quiesce.example", "http", False),
        ("localhost", "https", False),
    ],
)
async def test_browsers_are_told_to_stay_with_https_where_it_is(
    orchestrator: Orchestrator, host: str, proto: str, sent: bool
) -> None:
    before = access().rules
    assert before is not None
    proxies = Proxies([ip_network("192.0.2.0/24")])
    rules = Rules(before.authenticators, proxies=proxies)
    asking = Asking(orchestrator, Access(rules, public_hosts=["quiesce.example"]))
    answer = await asking.ask(
        "POST /session",
        body={"token": token_of("viewer")},
        headers={"Host": host, "X-Forwarded-Proto": proto},
        scope_base={"client": ("192.0.2.1", 1)},
    )
    assert answer.status_code == 200
    assert ("Strict-Transport-Security" in answer.headers) == sent
    assert ("Secure" in answer.headers["Set-Cookie"].split("; ")) == (proto == "https")
