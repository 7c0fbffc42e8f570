"""All that the document of the interface allows is sent to a real server, and much beside it.

It never fails by a mistake of its own, and answers as the document says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import STDOUT
from typing import TYPE_CHECKING

import pytest
import trio

from api.service import open_server
from tests.api.agents import ALL
from tests.api.auth.people import access, token_of

if TYPE_CHECKING:
    from orchestrator import Orchestrator

PROGRAM = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 2


async def prepared(orchestrator: Orchestrator) -> str:
    """Make what there is to ask about, and return what says where it is."""
    for each in ALL:
        orchestrator.agents.get(each)
    ended = await orchestrator.start("echo", {"text": "x"})
    await ended.wait()
    live = [await orchestrator.start("asker") for _ in range(3)]
    orchestrator.schedules.create("echo", {"text": "x"}, cron="0 0 1 1 *", schedule_id="yearly")
    # What would wait for an hour does not wait.
    return f"""
[parameters]
"path.run_id" = {json.dumps([ended.id, *(run.id for run in live)])}
"path.name" = "text.txt"
"path.schedule_id" = "yearly"
"query.wait_s" = 0

[checks]
# That an agent is there, a run still goes on, or all is halted, no schema can say.
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
# `/runs/stop` is a path of that of one run too, whose methods it therefore has.
allow_header_conformance.enabled = false
"""


@pytest.mark.slow
async def test_a_server_answers_whatever_comes_as_its_document_says(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(await prepared(orchestrator))
    with trio.fail_after(240):
        async with open_server(orchestrator, access=access()) as url:
            done = await trio.run_process(
                [
                    *(str(PROGRAM), "--config-file", str(config), "run", f"{url}/openapi.json"),
                    *("--header", f"Authorization: Bearer {token_of('admin')}"),
                    # The one stream that never ends.
                    *("--exclude-path", "/events"),
                    *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
                    *("--seed", "1", "--generation-database", "none", "--no-color"),
                    *("--request-timeout", "20"),
                ],
                capture_stdout=True,
                stderr=STDOUT,
                check=False,
                cwd=tmp_path,
            )
    report = done.stdout.decode()
    assert done.returncode == 0, report
    # Every other operation was asked.
    assert "Tested: 46" in report, report
