"""Every built-in agent passes the stop sweep, over a scripted network."""

from __future__ import annotations

import pytest

from orchestrator import Context, agent, open_orchestrator
from orchestrator.agents.chat import chat
from orchestrator.agents.command import command
from orchestrator.agents.crawl import crawl
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook
from orchestrator.testing import Reply, ScriptedHTTP, ScriptedLLM, run_stop_sweep, virtual_time

SITE = "https://site.test"


@pytest.fixture
def site(scripted_http: ScriptedHTTP) -> ScriptedHTTP:
    """A site of five pages, with a robots.txt, a sitemap, a redirect and a page that fails once."""

    def page(path: str, text: str, kind: str = "text/html", **more: object) -> None:
        headers = {"content-type": kind}
        scripted_http.on("GET", SITE + path, text=text, headers=headers, delay_s=0.1, **more)

    page("/robots.txt", f"User-agent: *\nSitemap: {SITE}/map.xml\n", "text/plain")
    page("/map.xml", f"<urlset><url><loc>{SITE}/c</loc></url></urlset>", "application/xml")
    page("/", "<title>home</title><a href=/a>a</a><a href=/b>b</a><a href=/moved>moved</a>")
    page("/a", "<title>a</title>a")
    page("/c", "<title>c</title>c")
    page("/d", "<title>d</title>d")
    scripted_http.on("GET", f"{SITE}/moved", status=302, headers={"location": "/d"})
    chunks = [(0.05, b"<title>b"), (0.05, b"</title>b")]
    scripted_http.on("GET", f"{SITE}/b", Reply(status=503), Reply(chunks=chunks))
    return scripted_http


@virtual_time
async def test_the_site_is_crawled_when_nobody_stops_it(site: ScriptedHTTP) -> None:
    async with open_orchestrator(transport=site) as orchestrator:
        run = await orchestrator.start(crawl, {"url": f"{SITE}/"})
        record = await run.wait()
    assert record.error is None
    assert sorted(page["url"] for page in record.result["pages"]) == [
        f"{SITE}/{path}" for path in ("", "a", "b", "c", "d")
    ]
    assert site.open == []


@agent
async def look_up(ctx: Context, word: str) -> str:
    await ctx.sleep(0.5)
    return f"{word} is a colour"


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_with_tools_passes_the_stop_sweep(
    scripted_llm: ScriptedLLM, scripted_http: ScriptedHTTP, stream: bool
) -> None:
    calls = [("look_up", {"word": word}) for word in ("red", "green")]
    scripted_llm.call_tools(*calls, delay_s=1)
    scripted_llm.say("They are ", "colours", delay_s=1, piece_s=1)
    given = {"message": "What are they?", "tools": ["look_up"], "stream": stream}
    report = run_stop_sweep(chat, given, agents=[look_up], transport=scripted_http)
    assert report.complete
    assert scripted_http.open == []


@agent
async def asks(ctx: Context) -> str:
    return await ctx.llm("Three colours?") + await ctx.llm("In words", stream=True)


@pytest.mark.slow
def test_what_asks_a_model_passes_the_stop_sweep(
    scripted_llm: ScriptedLLM, scripted_http: ScriptedHTTP
) -> None:
    scripted_llm.say("#f00", delay_s=1)
    scripted_llm.say("red, ", "green", delay_s=1, piece_s=1)
    assert run_stop_sweep(asks, transport=scripted_http).complete
    assert scripted_http.open == []


@pytest.mark.parametrize("concurrency", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_crawl_passes_the_stop_sweep(site: ScriptedHTTP, concurrency: int) -> None:
    given = {"url": f"{SITE}/", "concurrency": concurrency}
    report = run_stop_sweep(crawl, given, transport=site)
    assert report.complete
    assert all(points > 80 for points in report.points.values())
    assert site.open == []


@pytest.mark.slow
def test_a_command_passes_the_stop_sweep() -> None:
    """With real processes, in a task: the sweep does not see into a worker."""
    report = run_stop_sweep(
        command,
        {"argv": ["sh", "-c", "echo one; echo two >&2"]},
        real_time=True,
        options={"isolation": "task"},
    )
    assert report.complete
    assert all(points > 20 for points in report.points.values())


PLAYBOOK = f"""
name: everything at once
session: {{base_url: "{SITE}"}}
steps:
  - {{id: first, type: http, parameters: {{url: /, json: {{go: true}}, method: POST}}}}
  - id: both
    type: parallel
    parameters:
      branches:
        - [{{id: pause, type: wait, parameters: {{seconds: 0.5}}}}]
        - [{{id: colour, type: agent, parameters: {{agent: look_up, input: {{word: red}}}}}}]
  - id: each
    type: foreach
    on_error: continue
    parameters:
      items: [a, b]
      limit: 2
      steps:
        - id: again
          type: retry
          parameters:
            attempts: 3
            delay_s: 0.1
            steps: [{{id: page, type: http, parameters: {{url: "/{{{{ item }}}}"}}}}]
  - {{id: words, type: llm, parameters: {{prompt: "{{{{ steps.both[1].colour }}}}?"}}}}
outputs: {{said: "{{{{ steps.words.text }}}}", pages: "{{{{ steps.each }}}}"}}
"""


@pytest.fixture
def for_playbooks(scripted_http: ScriptedHTTP, scripted_llm: ScriptedLLM) -> ScriptedHTTP:
    """Pages of which one never answers well, and one does so at the second try; and a model."""
    scripted_http.on("POST", f"{SITE}/", json={"gone": True}, delay_s=0.1)
    page = Reply(chunks=[(0.05, b"<p>"), (0.05, b"a")])
    scripted_http.on("GET", f"{SITE}/a", Reply(status=503, delay_s=0.1), page)
    scripted_http.on("GET", f"{SITE}/b", status=500)
    scripted_llm.say("Yes, ", "it is", delay_s=0.5, piece_s=0.1)
    return scripted_http


@virtual_time
async def test_the_playbook_is_played_when_nobody_stops_it(for_playbooks: ScriptedHTTP) -> None:
    async with open_orchestrator(agents=[look_up], transport=for_playbooks) as orchestrator:
        run = await orchestrator.start(playbook, {"playbook": PLAYBOOK})
        record = await run.wait()
    assert record.error is None
    assert record.result["outputs"]["said"] == "Yes, it is"
    assert record.result["outputs"]["pages"]["error"]["message"].startswith("GET /b: it answered")
    assert for_playbooks.open == []


@pytest.mark.slow
def test_a_playbook_passes_the_stop_sweep(for_playbooks: ScriptedHTTP) -> None:
    """At no point does a step that catches, retries or goes on keep the run alive."""
    given = {"playbook": PLAYBOOK}
    report = run_stop_sweep(playbook, given, agents=[look_up], transport=for_playbooks)
    assert report.complete
    assert all(points > 80 for points in report.points.values())
    assert for_playbooks.open == []


@pytest.mark.slow
def test_a_job_passes_the_stop_sweep(scripted_http: ScriptedHTTP) -> None:
    """What was refunded is refunded once, at whatever point the job is stopped."""
    endpoint, refund = f"{SITE}/ask", f"{SITE}/refund"
    fine = Reply(chunks=[(0.1, b"a"), (0.1, b"b")], delay_s=0.1)
    scripted_http.on("POST", endpoint, fine, Reply(status=500), fine)
    scripted_http.on("POST", refund, delay_s=0.1)
    given = {
        "name": "bias",
        "questions": [1],
        "models": ["a", "b"],
        "regions": ["eu", "us"],
        "endpoint": endpoint,
        "concurrency": 3,
        "refund_to": refund,
    }
    report = run_stop_sweep(job, given, transport=scripted_http)
    assert report.complete
    assert scripted_http.open == []
