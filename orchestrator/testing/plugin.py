"""The pytest plugin, which is loaded by entry point: fixtures, ``--stop-at``, and a summary."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.runtime import open_orchestrator
from orchestrator.testing.leaks import no_leaks_in
from orchestrator.testing.reproduce import StopAt, stop_at
from orchestrator.testing.scripted_http import ScriptedHTTP
from orchestrator.testing.scripted_llm import MODEL, ScriptedLLM
from orchestrator.testing.sweep import reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from orchestrator.runtime import Orchestrator


_SWEPT = "quiesce_swept"
# What other processes have swept.
_elsewhere: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--stop-at``."""
    parser.getgroup("quiesce").addoption(
        "--stop-at",
        metavar="MODE:POINT:SEED",
        help="let each stop sweep play that one round only, as the line `reproduce:` shows it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take ``--stop-at`` over."""
    given = config.getoption("--stop-at")
    if given is not None:
        try:
            stop_at.set(StopAt.parse(given))
        except ValueError:
            raise pytest.UsageError(
                f"--stop-at={given}: not of the form mode:point:seed, such as now:37:0"
            ) from None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was swept."""
    clean = [*_swept(), *_elsewhere]
    if clean:
        terminalreporter.section("stop sweeps")
    for line in clean:
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was swept, in a worker of pytest-xdist, which has no terminal."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_SWEPT] = _swept()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what was swept by a worker; one that has crashed says nothing."""
    _elsewhere.extend(getattr(node, "workeroutput", {}).get(_SWEPT, []))


def _swept() -> list[str]:
    return [str(report) for report in reports if not report.violations]  # the others were shown


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The test leaves no thread, socket or child process behind, or it fails.

    For a whole module: ``pytestmark = pytest.mark.usefixtures("no_leaks")``.
    """
    with no_leaks_in():
        yield


@pytest.fixture
def scripted_http() -> ScriptedHTTP:
    """A transport that answers from a script."""
    return ScriptedHTTP()


@pytest.fixture
def scripted_llm(scripted_http: ScriptedHTTP, monkeypatch: pytest.MonkeyPatch) -> ScriptedLLM:
    """A language model that answers from a script, on the transport ``scripted_http``.

    It is what ``ctx.llm`` asks in this test, unless it is told of another endpoint.
    """
    llm = ScriptedLLM(scripted_http)
    for name, value in {"MODEL": MODEL, "BASE_URL": llm.base_url, "API_KEY": "none"}.items():
        monkeypatch.setenv(f"QUIESCE_LLM_{name}", value)
    return llm


@pytest.fixture
def memory_orchestrator(
    scripted_http: ScriptedHTTP,
) -> Callable[..., AbstractAsyncContextManager[Orchestrator]]:
    """A function that opens an orchestrator in memory, on the transport ``scripted_http``.

    Use it as ``async with memory_orchestrator() as orchestrator:``; takes what
    ``open_orchestrator`` takes.
    """
    return partial(open_orchestrator, transport=scripted_http)
