"""The document of the interface: it has every call, every problem, and nothing beside them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import trio
from openapi_spec_validator import validate

from api.app import create_app
from api.auth.rights import CALLS, Right
from api.dialects import DIALECTS
from api.openapi.document import document
from api.openapi.examples import EXAMPLES
from api.openapi.operations import OPERATIONS
from api.openapi.refusals import KINDS, PLAIN_KINDS
from orchestrator import Context, RunOptions, agent, open_orchestrator, options_schema
from tests.docs.pages import ROOT
from tests.orchestrator.test_journal import store as store  # a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from quart_trio import QuartTrio
    from trio.testing import MockClock

    from api.schema import Order
    from orchestrator import Agent, Orchestrator
    from tests.orchestrator.test_journal import FailingStore


@agent
async def crawl(ctx: Context) -> None:
    await trio.sleep_forever()


@agent
async def playbook(ctx: Context) -> None:
    await trio.sleep_forever()


@pytest.fixture
async def app(orchestrator: Orchestrator) -> QuartTrio:
    return create_app(orchestrator)


@pytest.fixture
async def described(app: QuartTrio) -> dict[str, Any]:
    return document(app)


def calls_in(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in described["paths"].items():
        for method, operation in item.items():
            if method == "x-websocket":
                yield f"WS {path}", {}
            else:
                yield f"{method.upper()} {path}", operation


def routes_of(app: QuartTrio) -> set[str]:
    return {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in ({"WS"} if rule.websocket else set(rule.methods or ()) - {"HEAD", "OPTIONS"})
    }


@pytest.mark.slow
async def test_it_is_openapi(described: dict[str, Any]) -> None:
    validate(described)


async def test_it_has_every_call_and_nothing_else(
    app: QuartTrio, described: dict[str, Any]
) -> None:
    assert {name for name, _ in calls_in(described)} == routes_of(app)
    assert set(OPERATIONS) == {name for name in CALLS if not name.startswith("WS")}


@pytest.mark.slow
async def test_with_dialects_it_has_their_calls_too(orchestrator: Orchestrator) -> None:
    app = create_app(orchestrator, dialects=list(DIALECTS))
    described = document(app)
    validate(described)
    assert {name for name, _ in calls_in(described)} == routes_of(app)
    assert len(routes_of(app)) > len(CALLS)


@pytest.mark.parametrize(
    ("agent", "asked", "headers", "answered"),
    [
        (crawl, "GET /api/crawl-progress/{id}", {}, 200),
        (crawl, "GET /api/crawl-progress/{id}", {"If-None-Match": "*"}, 304),
        (crawl, "GET /api/knowledge-items?page=0", {}, 422),
        (crawl, "POST /api/knowledge-items/stop/{id}", {}, 200),
        (playbook, "GET /api/executions/{id}/view", {}, 302),
        (playbook, "POST /api/executions/{id}/resume", {}, 409),
    ],
)
async def test_dialects_answer_as_it_says(
    agent: Agent, asked: str, headers: dict[str, str], answered: int
) -> None:
    # That they do is looked at for each test here: this one has only to ask.
    async with open_orchestrator(agents=[crawl, playbook]) as orchestrator:
        app = create_app(orchestrator, dialects=list(DIALECTS))
        run = await orchestrator.start(agent)
        method, path = asked.format(id=run.id).split()
        sent = {"Host": "localhost", **headers}
        client: Any = app.test_client()
        answer = await client.open(path, method=method, headers=sent)
        assert answer.status_code == answered


async def test_a_stop_of_archon_that_is_not_durable_is_answered_as_it_says(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async with open_orchestrator(agents=[crawl]) as orchestrator:
        client = create_app(orchestrator, dialects=["archon"]).test_client()
        run = await orchestrator.start(crawl)
        store.failing = True
        answer = await client.post(
            f"/api/knowledge-items/stop/{run.id}", headers={"Host": "localhost"}
        )
        assert answer.status_code == 500
        store.failing = False


def test_every_kind_of_problem_is_one_of_the_code() -> None:
    source = "".join(
        file.read_text() for file in (ROOT / "api").rglob("*.py") if "openapi" not in file.parts
    )
    used = re.findall(r'(?:problem|:\s)\(\s*(\d{3}),\s*"([a-z-]+)"', source)
    assert {kind: int(status) for status, kind in used} == KINDS


async def test_every_kind_of_problem_is_answered_by_some_call(orchestrator: Orchestrator) -> None:
    told: dict[str, int] = {}
    for _, operation in calls_in(document(create_app(orchestrator, dialects=list(DIALECTS)))):
        for status, response in operation.get("responses", {}).items():
            content = response.get("content", {}).get("application/problem+json")
            for part in content["schema"]["allOf"] if content else ():
                for kind in part.get("properties", {}).get("type", {}).get("enum", ()):
                    told[kind.removeprefix("urn:quiesce:")] = int(status)
    # That one is answered over a WebSocket.
    expected = {name: each for name, each in KINDS.items() if name != "not-subscribed"}
    assert told == {**expected, **{name: PLAIN_KINDS[name] for name in told if name not in KINDS}}


async def test_every_call_says_what_it_does_and_has_a_name_of_its_own(
    described: dict[str, Any],
) -> None:
    operations = [operation for _, operation in calls_in(described) if operation]
    assert [each for each in operations if not each["summary"]] == []
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names))


async def test_what_needs_a_token_says_so(described: dict[str, Any]) -> None:
    for name, operation in calls_in(described):
        if operation:
            right = CALLS[re.sub(r"\{(\w+)\}", r"<\1>", name)].right
            assert bool(operation["security"]) is (right is not Right.OPEN), name


@pytest.mark.parametrize("order", EXAMPLES, ids=lambda order: order.__name__)
def test_every_example_is_taken(order: type[Order]) -> None:
    for example in EXAMPLES[order]:
        order.model_validate(example)


def test_every_body_has_an_example() -> None:
    assert set(EXAMPLES) == {each.body for each in OPERATIONS.values() if each.body is not None}


def test_the_options_of_a_start_are_all_there() -> None:
    assert set(options_schema()["properties"]) == set(RunOptions.__dataclass_fields__)


async def test_it_is_sent_once(client: httpx.AsyncClient) -> None:
    first = await client.get("/openapi.json")
    assert (first.status_code, first.json()["openapi"]) == (200, "3.1.0")
    again = await client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_its_page_shows_every_call_and_shape_and_runs_nothing_of_others(
    client: httpx.AsyncClient,
) -> None:
    described = (await client.get("/openapi.json")).json()
    page = await client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    anchors = set(re.findall(r'id="([^"]+)"', page.text))
    for name, operation in calls_in(described):
        assert name.partition(" ")[2] in page.text
        if operation:
            assert operation["operationId"] in anchors
    assert set(re.findall(r'href="#([^"]+)"', page.text)) <= anchors
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page.text)
    for address in re.findall(r'(?:src|href)="([^"#]+)', page.text):
        assert address.startswith("/"), "everything comes from this server"
        assert (await client.get(address)).status_code == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_what_anybody_may_ask_for_is_made_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    first = await client.get(path)
    for name in ("document", "page_of", "render_template"):
        monkeypatch.delattr(f"api.openapi.calls.{name}")
    again = await client.get(path)
    assert (again.status_code, again.content) == (200, first.content)
