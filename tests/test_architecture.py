"""The shape of the house: imports point one way, and a few things have one place only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "orchestrator").rglob("*.py"))
WEB = sorted((ROOT / "api").rglob("*.py"))

# A module may import what has its own rank or a lower one.
RANKS = {
    0: "clock errors model events",
    1: "lifecycle trace procfs",
    2: "cleanup session faults timers observing store journal feed broadcast registry admission",
    3: "apart options agent catalog references allowance sections operations shapes http llm mcp"
    " mcp_http mcp_process data steps questions ports part partials stack",
    4: "telling context",
    5: "watchdog services stopping supervise ladder last_rung pausing ledger limits subagents"
    " handle run worker engine inprocess",
    6: "files reading starting halting recovery retention schedules runtime",
    7: "adapters agents knowledge testing",
}
RANK = {name: rank for rank, names in RANKS.items() for name in names.split()}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def runtime_imports(path: Path) -> set[str]:
    """Return the modules that a file imports when it runs, so without its type checking."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module or "")
        todo.extend(ast.iter_child_nodes(node))
    return found


def room_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_imports_of_the_core_point_downwards(path: Path) -> None:
    module = module_of(path)
    if module == "orchestrator":
        return
    rank = RANK[room_of(module)]
    for imported in runtime_imports(path):
        if imported.startswith("orchestrator."):
            assert RANK[room_of(imported)] <= rank, f"{module} imports {imported}"


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_the_core_does_not_know_the_web(path: Path) -> None:
    tops = {name.split(".")[0] for name in runtime_imports(path)}
    assert not tops & {"api", "quart", "quart_trio", "hypercorn", "click", "rich"}


# The loop of such agents, and what wraps frameworks that are written for it.
WRITTEN_FOR_ASYNCIO = {
    "orchestrator.worker.asyncio_loop",
    "orchestrator.adapters.calls",
    "orchestrator.adapters.tasks",
    "orchestrator.agents.gofannon",
    "orchestrator.agents._gofannon.models",
    "orchestrator.agents._gofannon.stopping",
}


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_asyncio_is_used_where_agents_are_written_for_it_only(path: Path) -> None:
    tops = {name.split(".")[0] for name in runtime_imports(path)}
    assert "asyncio" not in tops or module_of(path) in WRITTEN_FOR_ASYNCIO


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_the_lowest_ranks_need_the_standard_library_only(path: Path) -> None:
    module = module_of(path)
    if module == "orchestrator" or RANK[room_of(module)] > 1:
        return
    tops = {name.split(".")[0] for name in runtime_imports(path)}
    assert not tops & {"trio", "httpx", "pydantic", "apsw"}


@pytest.mark.parametrize("path", WEB, ids=module_of)
def test_the_web_knows_only_the_door_of_the_core(path: Path) -> None:
    inner = {name for name in runtime_imports(path) if name.startswith("orchestrator")}
    built_in = {name for name in inner if name.startswith("orchestrator.agents.")}
    assert inner - built_in <= {"orchestrator", "orchestrator.cleanup"}


@pytest.mark.parametrize("path", WEB, ids=module_of)
def test_hypercorn_is_named_in_two_modules_only(path: Path) -> None:
    tops = {name.split(".")[0] for name in runtime_imports(path)}
    if module_of(path) not in ("api.server", "api.connection"):
        assert "hypercorn" not in tops


def places(pattern: str) -> set[str]:
    return {module_of(path) for path in CORE + WEB if re.search(pattern, path.read_text())}


def test_only_two_modules_shield() -> None:
    shields = r"shield\s*=\s*True"
    assert places(shields) == {"orchestrator.cleanup", "orchestrator.sections"}
    assert sum(len(re.findall(shields, path.read_text())) for path in CORE + WEB) == 2


def test_the_wall_clock_is_read_in_one_place() -> None:
    clock = r"\btime\.time\(|datetime\.now\(|utcnow\("
    core = {module_of(path) for path in CORE if re.search(clock, path.read_text())}
    assert core == {"orchestrator.clock"}


def test_threads_are_used_where_something_blocks_only() -> None:
    """The store, the index of what was found, the parsing of pages, a slow import, the sweep, and
    workers' own code; and the watchdog, which watches what blocks."""
    core = {module_of(p) for p in CORE if re.search(r"to_thread|threading", p.read_text())}
    assert {name.split(".")[1] for name in core} <= {
        "store",
        "agents",
        "knowledge",
        "llm",
        "testing",
        "watchdog",
        "worker",
    }


def functions() -> list[tuple[str, int]]:
    found = []
    for path in CORE + WEB:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    lines = (node.end_lineno or 0) - body[0].lineno + 1
                    found.append((f"{module_of(path)}.{node.name}", lines))
    return found


def test_no_function_is_longer_than_40_lines() -> None:
    assert [each for each in functions() if each[1] > 40] == []


def test_no_file_is_much_longer_than_300_lines() -> None:
    lengths = {module_of(p): len(p.read_text().splitlines()) for p in CORE + WEB}
    assert {name: n for name, n in lengths.items() if n > 330} == {}
