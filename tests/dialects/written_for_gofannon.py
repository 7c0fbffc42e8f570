"""Agents as they stand in Gofannon, each a file; ``ours`` changes one line of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What they import there, and what they import here.
THERE = "from services.llm_service import call_llm"
HERE = "from orchestrator.agents.gofannon import *"

FETCH_REPO = f"""
import httpx
{THERE}


async def run(input_dict, tools):
    # Fetch the files of a repository into the data store, with a client of its own.
    http_client = httpx.AsyncClient()
    try:
        files = data_store.use_namespace(f"files:{{input_dict['repo']}}")
        found = {{}}
        for path in input_dict["paths"]:
            response = await http_client.get(f"{{input_dict['site']}}/{{path}}", timeout=60.0)
            found[path] = response.text
            files.set(path, found[path], metadata={{"status": response.status_code}})
        print(f"fetched {{len(files.get_many([*found, 'none']))}} files", flush=True)
        return {{"outputText": f"{{len(found)}} files"}}
    finally:
        await http_client.aclose()
        print(f"closed {{http_client.is_closed}}", flush=True)
"""
SUM_UP = f"""
import asyncio

import httpx
{THERE}


async def run(input_dict, tools):
    mcpc = {{url: RemoteMCPClient(remote_url=url) for url in tools.keys()}}
    http_client = httpx.AsyncClient()
    gate = asyncio.Semaphore(2)
    files = data_store.use_namespace(f"files:{{input_dict['repo']}}")
    sums = data_store.use_namespace(f"sums:{{input_dict['repo']}}")

    async def ask(path):
        content, thoughts = await call_llm(
            provider="bedrock",
            model="large",
            messages=[{{"role": "user", "content": f"Sum up {{path}}: {{files.get(path)}}"}}],
            parameters={{"temperature": 0.5, "top_p": None, "reasoning_effort": "disable"}},
            timeout=600,
        )
        return content

    async def sum_up(path):
        async with gate:
            text = await ask(path)
            print(f"heard {{text}} of {{path}}", flush=True)
            sums.set(path, text)
            return path

    try:
        done = await asyncio.gather(*[sum_up(path) for path in files.list_keys()])
        return {{"outputText": ", ".join(done), "sums": sums.get_all()}}
    finally:
        await asyncio.sleep(0.6)
        await http_client.aclose()
        print(f"closed {{http_client.is_closed}}", flush=True)
"""
REVIEW = f"""
{THERE}


async def run(input_dict, tools):
    results = []
    for name in ("fetch_repo", "sum_up"):
        result = await gofannon_client.call(agent_name=name, input_dict=input_dict)
        results.append(result["outputText"])
    spaces = [each for each in data_store.list_namespaces() if input_dict["repo"] in each]
    return {{"outputText": json.dumps(results), "spaces": spaces}}
"""
# Its author knows that AgentStopped is an Exception, and has not thought of it.
GO_ON = f"""
import asyncio
{THERE}


async def run(input_dict, tools):
    failures = 0
    for number in range(input_dict["times"]):
        try:
            text, _ = await call_llm("openai", "small", f"{{number}}", {{}})
            data_store.set("number", number)
        except Exception as error:
            failures += 1
            print(f"{{number}}: {{type(error).__name__}}", flush=True)
            continue
    while input_dict.get("for_ever"):
        try:
            await asyncio.sleep(600)
        except BaseException:
            print("went on", flush=True)
    return {{"outputText": f"{{failures}} failures"}}
"""
# One that was written with the stop in mind.
CAREFUL = f"""
{THERE}


async def ask(question):
    text, _ = await call_llm("openai", "small", question, {{}})
    return text


async def run(input_dict):
    notes = []
    try:
        for number in range(2):
            notes.append(await ask(f"{{input_dict['text']}} {{number}}"))
            notes.append(should_stop())
        return {{"outputText": notes}}
    except AgentStopped:
        for _ in range(2):
            try:
                data_store.set("after", "the stop")
            except AgentStopped:
                notes.append("refused again")
        return {{"outputText": "that is what it was"}}
    finally:
        await http_client.aclose()
        print(notes, flush=True)
"""
ALL = {
    "fetch_repo": FETCH_REPO,
    "sum_up": SUM_UP,
    "review": REVIEW,
    "go_on": GO_ON,
    "careful": CAREFUL,
}
# The longest that a file of theirs may take to clean up.
CLEANUP_S = 3
REGISTERED = f"""
{{name}} = as_agent(__import__({{name!r}}).run, name={{name!r}}, cleanup_s={CLEANUP_S})"""


def ours(there: str) -> str:
    """Return the text of an agent as it is here."""
    return there.replace(THERE, HERE)


def write(folder: Path) -> None:
    """Write the agents, and what makes agents of ours of them."""
    for name, text in ALL.items():
        (folder / f"{name}.py").write_text(ours(text))
    registered = [HERE, *(REGISTERED.format(name=name) for name in ALL)]
    (folder / "from_gofannon.py").write_text("\n".join(registered))
