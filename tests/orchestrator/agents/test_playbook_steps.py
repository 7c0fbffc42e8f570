"""What the steps of a playbook do, in virtual time over a scripted network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from orchestrator import Context, Orchestrator, RunStatus, agent, open_orchestrator
from orchestrator.agents.playbook import playbook
from orchestrator.testing import Reply
from tests.orchestrator.agents.playing import book, outputs, played, started, steps_done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from orchestrator.testing import ScriptedHTTP, ScriptedLLM

SITE = "https://site.test"
WAIT = "type: wait, parameters: {seconds: 1}"

tried: list[Any] = []


@agent
async def add(ctx: Context, a: int, b: int = 1) -> int:
    return a + b


@agent
async def fails_at_first(ctx: Context, times: int, mark: str = "") -> int:
    """Fail so many times, and then return how often it was called."""
    tried.append(mark or trio.current_time())
    if len(tried) <= times:
        raise LookupError(f"try {len(tried)}")
    return len(tried)


@pytest.fixture(autouse=True)
def fresh() -> None:
    tried.clear()


@pytest.fixture
async def orchestrator(scripted_http: ScriptedHTTP) -> AsyncIterator[Orchestrator]:
    async with open_orchestrator(agents=[add, fails_at_first], transport=scripted_http) as opened:
        yield opened


# Leaves


async def test_a_wait_takes_its_time(orchestrator: Orchestrator, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    assert await outputs(orchestrator, f"- {{id: a, {WAIT}}}") == {"a": {"seconds": 1.0}}
    assert trio.current_time() - began == 1


async def test_http_sends_what_it_is_told_to(
    orchestrator: Orchestrator, autojump_clock: MockClock, scripted_http: ScriptedHTTP
) -> None:
    for path in ("/a?q=1&r=true", "/b", "/c"):
        scripted_http.on("POST", SITE + path, json={"n": 1})
    steps = """\
        - id: a
          type: http
          parameters: {url: /a, method: POST, query: {q: 1, r: true}, json: null, headers: {X-A: b}}
        - {id: b, type: http, parameters: {url: /b, method: POST, form: {k: "v w"}}}
        - {id: c, type: http, parameters: {url: /c, method: POST, body: "{{ steps.b.json.n }}!"}}
        """
    session = f'session: {{base_url: "{SITE}", headers: {{Authorization: "Bearer {{{{ 7 }}}}"}}}}\n'
    record = await (await orchestrator.start(playbook, {"playbook": book(steps, session)})).wait()
    assert record.error is None
    seen = scripted_http.requests
    assert [each.content for each in seen] == [b"null", b"k=v+w", b"1!"]
    assert seen[0].headers["content-type"] == "application/json"
    assert seen[0].headers["x-a"] == "b"
    assert [each.headers["authorization"] for each in seen] == ["Bearer 7"] * 3
    assert record.result["steps"]["a"] == {
        "status": 200,
        "url": f"{SITE}/a?q=1&r=true",
        "headers": {"content-type": "application/json"},
        "text": '{"n": 1}',
        "json": {"n": 1},
        "truncated": False,
    }


async def test_the_session_keeps_its_cookies(
    orchestrator: Orchestrator, autojump_clock: MockClock, scripted_http: ScriptedHTTP
) -> None:
    scripted_http.on("GET", f"{SITE}/in", headers={"set-cookie": "id=7; Path=/"})
    scripted_http.on("GET", f"{SITE}/then")
    steps = "".join(
        f"- {{id: {name}, type: http, parameters: {{url: '{SITE}/{name}'}}}}\n"
        for name in ("in", "then")
    )
    await outputs(orchestrator, steps.replace("id: in", "id: login"))
    assert [each.headers.get("cookie") for each in scripted_http.requests] == [None, "id=7"]


@pytest.mark.parametrize(
    ("reply", "more", "why"),
    [
        (Reply(status=404, text="no such page"), "", "it answered 404: no such page"),
        (Reply(status=200), ", expect: [201, 202]", "it answered 200"),
        (Reply(error=httpx.ConnectTimeout("")), "", "it took too long to connect"),
        (Reply(delay_s=5), ", timeout_s: 2", "there was no whole answer within 2 s"),
        (Reply(chunks=[(1, b"a")] * 9), ", timeout_s: 2", "there was no whole answer within 2 s"),
        (Reply(headers={"content-encoding": "br"}), "", "encoded as br, which was not asked for"),
    ],
)
async def test_an_answer_that_is_not_expected_fails_the_step(
    orchestrator: Orchestrator,
    autojump_clock: MockClock,
    scripted_http: ScriptedHTTP,
    reply: Reply,
    more: str,
    why: str,
) -> None:
    scripted_http.on("GET", f"{SITE}/", reply)
    record = await played(
        orchestrator, f"- {{id: a, type: http, parameters: {{url: '{SITE}/'{more}}}}}"
    )
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert record.error.type == "StepFailed"
    assert record.error.message.startswith(f"step a (line 3): Unexpected: GET {SITE}/: ")
    assert why in record.error.message
    assert scripted_http.open == []


async def test_a_url_that_is_none_fails_the_step(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    record = await played(orchestrator, "- {id: a, type: http, parameters: {url: 'http://a:b/'}}")
    assert record.error is not None
    assert record.error.message == "step a (line 3): Unexpected: GET http://a:b/: Invalid port: 'b'"


async def test_an_answer_is_bounded_and_its_text_is_text(
    orchestrator: Orchestrator, autojump_clock: MockClock, scripted_http: ScriptedHTTP
) -> None:
    scripted_http.on("GET", f"{SITE}/long", text="abcdefgh")
    odd = {"content-type": "text/plain; charset=hex"}
    scripted_http.on("GET", f"{SITE}/odd", chunks=[(0, b"\xff\xfe")], headers=odd)
    says = {"content-type": "application/json"}
    scripted_http.on("GET", f"{SITE}/nan", text="NaN", headers=says)
    scripted_http.on("GET", f"{SITE}/endless", text="1e999", headers=says)
    scripted_http.on("GET", f"{SITE}/deep", text="[" * 300 + "]" * 300, headers=says)
    steps = f"""\
        - {{id: a, type: http, parameters: {{url: '{SITE}/long', max_bytes: 4}}}}
        - {{id: b, type: http, parameters: {{url: '{SITE}/odd'}}}}
        - {{id: c, type: http, parameters: {{url: '{SITE}/nan', expect: [200]}}}}
        - {{id: d, type: http, parameters: {{url: '{SITE}/endless'}}}}
        - {{id: e, type: http, parameters: {{url: '{SITE}/deep'}}}}
        """
    found = await outputs(orchestrator, steps)
    assert (found["a"]["text"], found["a"]["truncated"]) == ("abcd", True)
    assert found["b"]["text"] == "\ufffd\ufffd"
    assert (found["c"]["text"], found["c"]["json"]) == ("NaN", None)
    assert (found["d"]["text"], found["d"]["json"]) == ("1e999", None)
    assert (found["e"]["status"], found["e"]["json"]) == (200, None)
    assert scripted_http.open == []


async def test_an_agent_is_called_with_its_input(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    steps = """\
        - {id: a, type: agent, parameters: {agent: add, input: {a: 1}}}
        - {id: b, type: agent, parameters: {agent: add, input: {a: "{{ steps.a }}", b: 5}}}
        """
    assert await outputs(orchestrator, steps) == {"a": 2, "b": 7}


async def test_a_model_is_asked(
    orchestrator: Orchestrator, autojump_clock: MockClock, scripted_llm: ScriptedLLM
) -> None:
    scripted_llm.say("blue")
    scripted_llm.say('{"n": 3}')
    steps = """\
        - {id: a, type: llm, parameters: {prompt: Which?, system: Be brief., temperature: 0}}
        - id: b
          type: llm
          parameters: {prompt: "{{ [{'role': 'user', 'content': steps.a.text}] }}",
            schema: {type: object}, stream: false, model: other}
        """
    found = await outputs(orchestrator, steps)
    assert found == {
        "a": {"text": "blue", "value": None},
        "b": {"text": '{"n": 3}', "value": {"n": 3}},
    }
    first, second = scripted_llm.requests
    assert [each["content"] for each in first["messages"]] == ["Be brief.", "Which?"]
    assert first["temperature"] == 0
    assert (second["model"], second["messages"][0]["content"]) == ("other", "blue")


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("{seconds: \"{{ 'x' }}\"}", "InvalidInput: seconds: Input should be a valid number"),
        ('{seconds: "{{ inputs.x }}"}', "TemplateFailed: {{ inputs.x }}: 'dict object' has no"),
    ],
)
async def test_a_template_that_comes_to_nothing_fails_the_step(
    orchestrator: Orchestrator, autojump_clock: MockClock, parameters: str, why: str
) -> None:
    text = book(f"- {{id: a, type: wait, parameters: {parameters}}}", "inputs: {x: }\n")
    given = {"playbook": text.replace("inputs.x", "inputs.x.y"), "inputs": {"x": {}}}
    record = await (await orchestrator.start(playbook, given)).wait()
    assert record.error is not None
    assert record.error.message.startswith(
        f"step a (line 4): {why}".replace("inputs.x", "inputs.x.y")
    )


# Blocks


@pytest.mark.parametrize(("condition", "taken"), [("true", {"b": 2}), ("false", {"c": 3})])
async def test_if_takes_one_way(
    orchestrator: Orchestrator, autojump_clock: MockClock, condition: str, taken: dict[str, int]
) -> None:
    steps = f"""\
        - id: a
          type: if
          parameters:
            condition: "{{{{ {condition} and 1 < 2 }}}}"
            then: [{{id: b, type: agent, parameters: {{agent: add, input: {{a: 1}}}}}}]
            else: [{{id: c, type: agent, parameters: {{agent: add, input: {{a: 2}}}}}}]
        """
    assert await outputs(orchestrator, steps) == {"a": taken}


async def test_a_condition_is_true_or_false_and_nothing_like_it(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    then = f"then: [{{id: b, {WAIT}}}]"
    steps = f"- {{id: a, type: if, parameters: {{condition: '{{{{ 1 }}}}', {then}}}}}"
    record = await played(orchestrator, steps)
    assert record.error is not None
    assert record.error.message == (
        "step a (line 3): InvalidInput: condition: Input should be a valid boolean"
    )


@pytest.mark.parametrize(("limit", "seconds"), [(1, 6), (2, 4), (10, 3)])
async def test_foreach_does_its_steps_for_each_item_so_many_at_once(
    orchestrator: Orchestrator, autojump_clock: MockClock, limit: int, seconds: int
) -> None:
    steps = f"""\
        - id: a
          type: foreach
          parameters:
            items: [1, 2, 3]
            limit: {limit}
            steps:
              - {{id: b, type: wait, parameters: {{seconds: "{{{{ item }}}}"}}}}
              - id: c
                type: agent
                parameters:
                  agent: add
                  input: {{a: "{{{{ index }}}}", b: "{{{{ steps.b.seconds | int }}}}"}}
        """
    began = trio.current_time()
    found = await outputs(orchestrator, steps)
    assert found["a"] == [{"b": {"seconds": n + 1.0}, "c": 2 * n + 1} for n in range(3)]
    assert trio.current_time() - began == seconds


async def test_branches_are_done_at_once_each_in_its_order(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    steps = f"""\
        - id: a
          type: parallel
          parameters:
            branches:
              - [{{id: b, {WAIT}}}, {{id: c, {WAIT}}}]
              - [{{id: d, {WAIT}}}]
        """
    began = trio.current_time()
    one = {"seconds": 1.0}
    assert await outputs(orchestrator, steps) == {"a": [{"b": one, "c": one}, {"d": one}]}
    assert trio.current_time() - began == 2


async def test_the_first_branch_that_fails_ends_the_others(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    steps = """\
        - id: a
          type: parallel
          parameters:
            branches:
              - [{id: b, type: wait, parameters: {seconds: 100}}]
              - - {id: c, type: wait, parameters: {seconds: 1}}
                - {id: d, type: agent, parameters: {agent: fails_at_first, input: {times: 1}}}
        """
    began = trio.current_time()
    record = await played(orchestrator, steps)
    assert record.error is not None
    assert record.error.message.startswith("step a.1.d (line 9): AgentFailed: sub-agent fails_at")
    assert trio.current_time() - began == 1


async def test_retry_does_all_its_steps_again_with_growing_delays(
    orchestrator: Orchestrator,
    autojump_clock: MockClock,
) -> None:
    steps = """\
        - id: a
          type: retry
          parameters:
            attempts: 4
            delay_s: 2
            backoff: 3
            steps:
              - {id: b, type: wait, parameters: {seconds: 1}}
              - {id: c, type: agent, parameters: {agent: fails_at_first, input: {times: 2}}}
        """
    run = await started(orchestrator, steps)
    record = await run.wait()
    assert record.result["steps"] == {"a": {"b": {"seconds": 1.0}, "c": 3}}
    assert [at - tried[0] for at in tried] == [0, 3, 10]
    assert await steps_done(orchestrator, run) == [
        (f"a.{n}.{step}", False) for n in (1, 2, 3) for step in ("b", "c")
    ]


async def test_retry_fails_with_its_last_attempt(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    steps = """\
        - id: a
          type: retry
          parameters:
            attempts: 2
            steps: [{id: b, type: agent, parameters: {agent: fails_at_first, input: {times: 9}}}]
        """
    record = await played(orchestrator, steps)
    assert record.error is not None
    assert record.error.message.startswith("step a.2.b (line 7): AgentFailed")
    assert record.error.message.endswith("LookupError: try 2")
    assert len(tried) == 2


async def test_a_step_that_may_fail_does_not_fail_the_playbook(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    steps = """\
        - id: a
          type: foreach
          on_error: continue
          parameters:
            items: [1]
            steps: [{id: b, type: agent, parameters: {agent: fails_at_first, input: {times: 1}}}]
        - id: c
          type: agent
          parameters: {agent: fails_at_first, input: {times: 0, mark: "{{ steps.a.error.type }}"}}
        """
    found = await outputs(orchestrator, steps)
    assert found["a"]["error"]["type"] == "AgentFailed"
    assert found["a"]["error"]["message"].endswith("LookupError: try 1")
    assert tried[1] == "AgentFailed"


async def test_progress_names_the_step_that_is_done(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await started(orchestrator, f"- {{id: a, name: The first, {WAIT}}}\n- {{id: b, {WAIT}}}")
    events = [e async for e in await orchestrator.events(run.id)]
    assert [(e.data["percent"], e.data["message"]) for e in events if e.type == "run.progress"] == [
        (0, "The first"),
        (50, "b"),
        (100, "test"),
    ]
