"""Archon's stop where something fails, or does not end: with a server of its own for each test."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.api.processes import Process, Site, quiesce
from tests.dialects.test_archon import (
    BOUND_S,
    NO_TASK,
    half_done,
    has,
    progress,
    search,
    start,
    stop,
    until,
    upload,
)
from tests.dialects.test_archon import site as site  # a fixture
from tests.orchestrator.agents.documents import packed
from tests.orchestrator.worker.seen import children_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

STOPPING = "Stopping crawl operation..."


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[httpx.Client, Process]]:
    """A server, and a client of it."""
    with ExitStack() as stack:
        serve = ["serve", "--port", "0", "--dialect", "archon", *options]
        process = stack.enter_context(quiesce(*serve, cwd=folder))
        url = process.until("listening").split()[-1]
        yield stack.enter_context(httpx.Client(base_url=url, timeout=30)), process


def test_A4_a_stop_is_carried_out_while_another_program_has_locked_the_store(
    site: Site, tmp_path: Path
) -> None:
    """And is answered with 500, since nobody could promise that it holds."""
    with (
        serving(tmp_path) as (http, _),
        closing(sqlite3.connect(tmp_path / "quiesce.db", isolation_level=None)) as other,
    ):
        crawl = half_done(http, site)
        other.execute("BEGIN IMMEDIATE")
        refused = stop(http, crawl)
        assert (refused.status_code, list(refused.json())) == (500, ["error"])
        assert "another program has locked the file" in refused.json()["error"]
        site.wait_for("open", 0)
        assert progress(http, crawl)["status"] == "crawling"  # nobody is told what is not durable
        other.execute("ROLLBACK")
        said = until(http, crawl, has("cancelled"))
        assert said["log"] == "Crawl cancelled by user"
        assert said["progress"] > 0
        assert (stop(http, crawl).status_code, stop(http, crawl).json()) == (404, NO_TASK)


def test_A4_a_document_whose_process_does_not_answer_is_not_dropped(tmp_path: Path) -> None:
    """After two seconds it is said to be alive; then it is killed, and what was kept is there."""
    page = b"".join(b"BT /F 9 Tf 50 %d Td (line %d) Tj ET\n" % (n, n) for n in range(300))
    with serving(tmp_path) as (http, process):
        sent = upload(http, "long.pdf", packed([page] * 500))
        until(http, sent, lambda said: said["progress"] > 1)
        (warden,) = children_of(process.popen.pid).split()
        (worker,) = children_of(int(warden)).split()
        while True:
            os.kill(int(worker), signal.SIGSTOP)
            time.sleep(0.5)  # what it has sent arrives in another process: there is no event
            if has_told_all(http, sent):
                break
            # It was halted between keeping something and telling of that.
            os.kill(int(worker), signal.SIGCONT)

        answer = stop(http, sent)

        message = "Crawl task is stopping, and has not ended yet"
        assert (answer.status_code, answer.json()["message"]) == (200, message)
        said = progress(http, sent)
        assert (said["status"], said["log"]) == ("in_progress", STOPPING)
        until(http, sent, has("cancelled"))
        assert worker not in children_of(int(warden)).split()
        run = http.get(f"/runs/{sent}").json()
        assert (run["stop"]["reached"], run["stop"]["processes_killed"]) == ("kill", 1)
        kept = http.get(f"/runs/{sent}/artifacts/chunks.jsonl").text.splitlines()
        assert len(kept) == run["partial"]["chunks"] > 0
        logs = progress(http, sent)["logs"]
        assert f"0 of 1: long.pdf, {len(kept)} chunks" in logs
        assert logs[-1] == "Crawl cancelled by user"
        assert sent in {each["progressId"] for each in search(http)["items"]}


def has_told_all(http: httpx.Client, sent: str) -> bool:
    """Whether the run has told of all the chunks that are kept."""
    kept = len(http.get(f"/runs/{sent}/artifacts/chunks.jsonl").text.splitlines())
    told = f"0 of 1: long.pdf, {kept} chunks" in progress(http, sent)["logs"]
    return bool(told and kept == http.get(f"/runs/{sent}").json()["partial"]["chunks"])


def test_B6_what_a_killed_server_left_is_settled_and_what_is_old_is_removed(
    site: Site, tmp_path: Path
) -> None:
    with serving(tmp_path) as (http, first):
        stopped = half_done(http, site)
        stop(http, stopped)
        orphan = start(http, site)
        site.wait_for("open", 1)
        first.signal(signal.SIGKILL)
        first.popen.wait()
    with serving(tmp_path) as (http, _):
        assert progress(http, stopped)["status"] == "cancelled"
        assert progress(http, orphan)["status"] == "error"
        assert (stop(http, orphan).status_code, stop(http, orphan).json()) == (404, NO_TASK)
        assert {each["progressId"] for each in search(http)["items"]} == {stopped}
        ended = datetime.fromisoformat(http.get(f"/runs/{orphan}").json()["ended_at"])
    time.sleep(max(0, ended.timestamp() + 1 - time.time()))  # until its time is over
    with serving(tmp_path, "--retention", "1s") as (http, _):
        for old in (stopped, orphan):
            until_gone(http, old)
        assert search(http)["items"] == []


def until_gone(http: httpx.Client, progress_id: str) -> None:
    ends = time.monotonic() + BOUND_S
    while http.get(f"/api/progress/{progress_id}").status_code != 404:
        assert time.monotonic() < ends
        time.sleep(0.05)  # another process: there is no event to wait for
