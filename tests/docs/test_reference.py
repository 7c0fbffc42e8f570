"""The reference pages say what the code says: nothing is missing, and nothing is left over."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any

import click

import orchestrator.errors
import orchestrator.events
from api import answers, orders, schema
from api.app import create_app
from api.auth.rights import CALLS, CALLS_OF_DIALECTS
from api.cli import main
from api.client import AsyncClient, Client
from orchestrator import (
    Context,
    Orchestrator,
    OrchestratorError,
    ProcessLimits,
    RunId,
    RunRecord,
    RunStatus,
)
from orchestrator.agents._playbook.filters import FILTERS
from orchestrator.agents._playbook.parameters import AGENTS, ALL, INNER, TYPES
from orchestrator.agents.crawl import crawl
from orchestrator.events import ENDINGS, Payload, RunEnded, UserEvent
from orchestrator.model import (
    OperationCounts,
    Receipt,
    RunError,
    RunOptions,
    Standing,
    StopOutcome,
    StopRequest,
    StopSource,
)
from tests.docs.pages import DOCS, ROOT, blocks_of, code_in, rows_of
from tests.test_architecture import RANKS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFERENCE = DOCS / "reference"


def words(cell: str) -> list[str]:
    """Return the pieces of inline code in a cell."""
    return [word.replace("\\|", "|") for word in re.findall(r"`([^`]+)`", cell)]


def table_of(page: Path, heading: str) -> dict[str, list[str]]:
    """Return the rows under the first table whose first column has that heading, by their key."""
    found: dict[str, list[str]] = {}
    inside = False
    for row in rows_of(page):
        if row[0] == heading:
            inside = not found
        elif inside and words(row[0]):
            for key in words(row[0]):
                assert key not in found, f"{key} is there twice"
                found[key] = row[1:]
        else:
            inside = False
    return found


def names_of(kind: Any) -> list[str]:
    return [each.name for each in fields(kind)]


def test_every_event_is_there_with_its_data() -> None:
    expected = {
        kind.type: names_of(kind)
        for kind in vars(orchestrator.events).values()
        if inspect.isclass(kind)
        and issubclass(kind, Payload)
        and kind not in (Payload, RunEnded, UserEvent)
    }
    expected |= {ending: names_of(RunEnded) for ending in ENDINGS}
    shown = {key: words(row[0]) for key, row in table_of(REFERENCE / "events.md", "type").items()}
    assert shown == expected


def test_every_option_is_there_with_its_default() -> None:
    rows = table_of(REFERENCE / "options.md", "option")
    assert list(rows) == names_of(RunOptions)
    for name, default in asdict(RunOptions()).items():
        assert json.loads(words(rows[name][0])[0]) == (
            list(default) if isinstance(default, tuple) else default
        )


def test_every_limit_is_there_with_its_default() -> None:
    rows = table_of(REFERENCE / "options.md", "limit")
    assert {name: row[0] for name, row in rows.items()} == {
        field.name: f"`{field.default}`" for field in fields(ProcessLimits)
    }


def test_every_error_is_there() -> None:
    defined = {
        name
        for name, kind in vars(orchestrator.errors).items()
        if inspect.isclass(kind) and issubclass(kind, OrchestratorError)
    }
    assert set(table_of(REFERENCE / "errors.md", "class")) == defined


def test_every_kind_of_problem_is_there_with_its_status() -> None:
    source = "".join(file.read_text() for file in (ROOT / "api").rglob("*.py"))
    used = set(re.findall(r'(?:problem|:\s)\(\s*(\d{3}),\s*"([a-z-]+)"', source))
    rows = table_of(REFERENCE / "errors.md", "problem")
    assert {(row[0], kind) for kind, row in rows.items()} == used


def test_every_field_of_the_receipt_is_there() -> None:
    rows = table_of(REFERENCE / "receipt.md", "field")
    assert list(rows) == names_of(Receipt)
    for field, kind in {
        "operations": OperationCounts,
        "still_running": Standing,
        "error": RunError,
        "also": StopRequest,
    }.items():
        assert set(names_of(kind)) <= set(words(rows[field][1])), field


def test_every_source_and_outcome_is_explained() -> None:
    for heading, kind in (("source", StopSource), ("outcome", StopOutcome)):
        assert set(table_of(REFERENCE / "receipt.md", heading)) == set(map(str, kind))


def test_every_status_is_explained() -> None:
    shown = table_of(REFERENCE / "lifecycle.md", "status")
    assert list(shown) == [str(status) for status in RunStatus]
    assert {key for key, row in shown.items() if row[0] == "yes"} == {
        str(status) for status in RunStatus if status.is_terminal
    }


def test_everything_that_a_context_offers_is_there() -> None:
    cells = [words(row[0])[0] for row in rows_of(REFERENCE / "context.md") if words(row[0])]
    shown = [match[1] for cell in cells if (match := re.search(r"\bctx\.(\w+)", cell))]
    assert sorted(shown) == sorted(name for name in dir(Context) if not name.startswith("_"))


async def test_every_call_is_there(orchestrator: Orchestrator) -> None:
    app = create_app(orchestrator)
    served = {
        f"{method} {re.sub(_PARAMETER, _parameter, rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in ({"WS"} if rule.websocket else set(rule.methods or ()) - {"HEAD", "OPTIONS"})
    }
    assert set(table_of(REFERENCE / "http-api.md", "call")) == served


_PARAMETER = r"<(?:run_id|schedule_id|(\w+))>"


def _parameter(match: re.Match[str]) -> str:
    return f"{{{match[1] or 'id'}}}"


def test_every_action_of_the_audit_is_there() -> None:
    written = {call.action for call in (CALLS | CALLS_OF_DIALECTS).values() if call.action}
    shown = table_of(REFERENCE / "authentication.md", "action")
    assert set(shown) == written | {"token"}


def test_every_field_of_a_request_is_there() -> None:
    shown = code_in(REFERENCE / "http-api.md")
    for order in (*vars(schema).values(), *vars(orders).values()):
        if inspect.isclass(order) and issubclass(order, schema.Order):
            assert set(order.model_fields) <= shown, order


def test_the_run_has_the_fields_that_are_shown() -> None:
    (block,) = [b for b in blocks_of(REFERENCE / "http-api.md") if b.language == "json"]
    run_id = RunId("run_0")
    record = RunRecord(
        id=run_id, root_id=run_id, agent="a", status=RunStatus.RUNNING, created_at=""
    )
    shown = json.loads(block.text)
    assert list(shown) == [*answers.run_json(record), "partial"]
    assert list(shown["options"]) == names_of(RunOptions)


def flags_on_the_page() -> dict[str, dict[str, str]]:
    """Return each command's flags and their defaults as the page shows them."""
    sections = re.split(r"^## ", (REFERENCE / "commands.md").read_text(), flags=re.MULTILINE)[1:]
    found: dict[str, dict[str, str]] = {}
    for section in sections:
        if named := re.match(r"`quiesce ([a-z]+(?: [a-z]+)*)", section):
            rows = re.findall(r"^\| `(--[\w-]+).*?` \| (?:`(.*?)`)?", section, re.MULTILINE)
            found[named[1]] = dict(rows)
    return found


def test_every_command_is_there_with_its_flags_and_their_defaults() -> None:
    assert flags_on_the_page() == {
        name: {
            option.opts[0]: _default(option)
            for option in command.params
            if isinstance(option, click.Option)
        }
        for name, command in _leaves("", main)
    }


def _leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands that do something, with what is typed to get there."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for each in command.list_commands(context):
        found = command.get_command(context, each)
        assert found is not None
        yield from _leaves(f"{name} {each}".strip(), found)


def _default(option: click.Option) -> str:
    default = option.to_info_dict()["default"]
    if option.is_flag or option.multiple or default in (None, ""):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_method_of_the_clients_is_there() -> None:
    page = REFERENCE / "python-client.md"
    shared = {re.sub(r"\(.*", "", each) for each in table_of(page, "method")}
    assert shared == methods_of(AsyncClient) - {"aclose"}
    assert shared < methods_of(Client)
    assert methods_of(Client) <= shared | code_in(page)


def methods_of(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_input_of_a_crawl_is_there() -> None:
    rows = table_of(DOCS / "how-to" / "crawl-a-site.md", "name")
    properties = crawl.input_schema["properties"]
    assert list(rows) == list(properties)
    for name, row in rows.items():
        default = properties[name].get("default", MISSING)
        if isinstance(default, int | float):
            assert float(row[0]) == default


def test_every_type_of_step_of_a_playbook_is_there_with_its_parameters() -> None:
    page = DOCS / "how-to" / "write-a-playbook.md"
    rows = [row for row in rows_of(page) if len(row) == 3 and words(row[0])]
    shown = {words(row[0])[0]: set(words(row[1])) for row in rows}
    assert sorted(shown) == ALL
    for name, kind in TYPES.items():
        own = {field.alias or name for name, field in kind.model_fields.items()}
        assert own | set(INNER.get(name, ())) <= shown[name], name
    for name, agent in AGENTS.items():
        assert set(agent.input_schema["properties"]) <= shown[name], name


def test_every_filter_of_a_playbook_is_there() -> None:
    text = (DOCS / "how-to" / "write-a-playbook.md").read_text()
    listed = text.partition("These filters are")[2].partition("\n\n")[0]
    assert sorted(words(listed)) == sorted(set(FILTERS) - {"d"})


def test_the_architecture_page_has_every_module_in_the_order_of_imports() -> None:
    rows = rows_of(DOCS / "explanation" / "architecture.md")[1:]
    assert [sorted(words(row[0])) for row in rows] == [
        sorted(RANKS[rank].split()) for rank in sorted(RANKS, reverse=True)
    ]
