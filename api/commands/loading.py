"""Agents from files and modules."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.commands.built_in import BUILT_IN
from orchestrator import Agent, OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

agents_option = click.option(
    "--agents",
    "sources",
    multiple=True,
    metavar="FILE|MODULE",
    help="Where agents are: a .py file or a module. May be given several times.",
)


class CannotLoad(OrchestratorError):
    """Agents cannot be loaded from there."""

    def __init__(self, source: str, why: str) -> None:
        self.source = source
        super().__init__(f"cannot load agents from {source}: {why}")


def load_agents(sources: Iterable[str]) -> list[Agent]:
    """Return the built-in agents and every module-level agent of the sources.

    Args:
        sources: paths of Python files, or names of importable modules.

    Raises:
        CannotLoad: a source cannot be imported, has no agents, or has one whose name is taken.
    """
    agents = {agent.name: agent for agent in BUILT_IN}
    for source in sources:
        found = [value for value in vars(_load(source)).values() if isinstance(value, Agent)]
        if not found:
            raise CannotLoad(source, "it has no agents; decorate an async function with @agent")
        for agent in found:
            if agents.setdefault(agent.name, agent) is not agent:
                taken = f"another agent is named {agent.name!r}; give one `@agent(name=...)`"
                raise CannotLoad(source, taken)
    return list(agents.values())


def _load(source: str) -> ModuleType:
    path = Path(source)
    is_file = path.suffix == ".py"
    try:
        return _load_file(path) if is_file else _load_module(source)
    except (Exception, SystemExit) as error:  # the file is the user's, and may do anything
        raise CannotLoad(source, _in_words(error)) from error


def _load_file(path: Path) -> ModuleType:
    path = path.resolve(strict=True)
    # Under a name of its own, so that no file can hide a module or another file.
    name = f"quiesce_agents_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _import_from(path.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load_module(name: str) -> ModuleType:
    _import_from(Path.cwd())
    return importlib.import_module(name)


def _import_from(folder: Path) -> None:
    """Let what is loaded import its neighbours, as it could if it were run by ``python``."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _in_words(error: BaseException) -> str:
    match error:
        case FileNotFoundError() if error.filename is not None:
            return f"{error.filename}: no such file"
        case SyntaxError():
            return f"{error.msg} (line {error.lineno})"
        case _:
            return f"{type(error).__name__}: {error}"
