"""A user's own project with plain pytest: the plugin is found, and what it gives works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

# Each test is a run of pytest in a process of its own.
pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
# Plugins that are here for other tests, and are not in the project of a user.
OTHERS = [f"-pno:{name}" for name in ("trio", "anyio", "schemathesis", "langsmith_plugin")]

AGENTS = """
import trio
from orchestrator import Context, agent

@agent
async def polite(ctx: Context, url: str) -> str:
    page = await ctx.get(url)
    await ctx.sleep(3600)
    return page.text

@agent
async def hasty(ctx: Context) -> None:
    try:
        await ctx.sleep(1)
    finally:
        await trio.sleep(1)
"""

TESTS = """
import threading
import pytest
import trio
from agents import hasty, polite
from orchestrator.testing import assert_tree_gone, run_stop_sweep, stop_sweep, until, virtual_time

URL = "https://example.org/"

def test_polite(scripted_http):
    scripted_http.on("GET", URL, text="hello")
    report = run_stop_sweep(polite, {"url": URL}, transport=scripted_http)
    assert report.complete

def test_hasty():
    run_stop_sweep(hasty)

@virtual_time
async def test_by_hand(memory_orchestrator, scripted_http, no_leaks):
    scripted_http.on("GET", URL, text="hello")
    async with memory_orchestrator() as orchestrator:
        run = await orchestrator.start(polite, {"url": URL})
        await until(run, "running")
        await trio.sleep(60)
        receipt = await run.stop(mode="now")
        assert_tree_gone(run)
    assert receipt.operations.cut == 0

def test_a_model(scripted_llm):
    assert scripted_llm.base_url.startswith("http")

def test_awaited(scripted_http):
    async def main():
        return await stop_sweep(polite, {"url": URL}, transport=scripted_http, modes=["now"])
    assert trio.run(main).violations == ()

def test_leaky(no_leaks):
    threading.Timer(4, lambda: None).start()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "test_agents.py").write_text(TESTS)
    return tmp_path


def pytest_in(project: Path, *args: str) -> tuple[int, str]:
    """Run plain pytest there, as somebody types it, without any plugin but ours."""
    command = [sys.executable, "-m", "pytest", *OTHERS, *args]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_plugin_is_an_entry_point() -> None:
    (ours,) = [each for each in entry_points(group="pytest11") if each.name == "quiesce"]
    assert ours.value == "orchestrator.testing.plugin"


def test_a_project_with_plain_pytest_has_all_of_it(project: Path) -> None:
    code, said = pytest_in(project, "-k", "not hasty and not leaky")
    assert code == 0, said
    assert "4 passed" in said
    assert re.search(r"polite: stopped at points: graceful (\d+) of \1, now (\d+) of \2;", said)


def test_what_workers_have_swept_is_shown_too(project: Path) -> None:
    code, said = pytest_in(project, "-n1", "-k", "polite")
    assert code == 0, said
    assert re.search(r"polite: stopped at points: graceful (\d+) of \1, now (\d+) of \2;", said)


def test_a_fault_is_shown_again_by_the_line_that_the_report_shows(project: Path) -> None:
    code, said = pytest_in(project, "-k", "hasty")
    assert code == 1
    assert "'hasty' does not stop cleanly" in said
    assert "where: agents.py:16 in hasty" in said
    line = re.search(r"reproduce: pytest (.+)", said)
    assert line is not None

    code, again = pytest_in(project, *shlex.split(line[1]))
    assert code == 1
    assert "where: agents.py:16 in hasty" in again
    assert "stopped at points: graceful 1 of 1;" in again


def test_what_a_test_leaves_behind_fails_it(project: Path) -> None:
    code, said = pytest_in(project, "-k", "leaky")
    assert code == 1
    assert "Leaked: left over:" in said
    assert "Timer" in said or "Thread-" in said


def test_a_point_that_is_none_is_refused(project: Path) -> None:
    code, said = pytest_in(project, "--stop-at=soon")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "not of the form mode:point:seed" in said
