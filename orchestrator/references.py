"""Where an agent's code is, so that another process can import it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import reduce
from typing import TYPE_CHECKING, Any

from orchestrator.agent import Agent
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from types import ModuleType

# The program's own module, as another process imports it: its `if __name__ == "__main__"` is off.
MAIN = "__quiesce_main__"


def reference_of(agent: Agent) -> dict[str, Any]:
    """Return the module, its file, and the name within it, of an agent; and who makes it of that.

    Raises:
        InvalidInput: it is not at the top level of a module that has a file.
    """
    function = agent.function
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    if file is None or "<locals>" in function.__qualname__:
        remedy = "move it to the top level of a module"
        if not agent.why_apart:
            remedy += ", or use isolation='task'"
        why = f"a worker process cannot import {function.__qualname__}: {remedy}"
        raise InvalidInput([("options.isolation", why)])
    name = MAIN if function.__module__ == "__main__" else function.__module__
    found = {"module": name, "file": file, "name": function.__qualname__, "maker": None}
    if agent.maker is not None:
        make, named = agent.maker
        found["maker"] = [make.__module__, make.__qualname__, named]
    return found


def load_reference(reference: dict[str, Any]) -> Agent:
    """Return the agent that ``reference_of`` described, importing its module if need be.

    Raises:
        ImportError: its module cannot be imported, or has no such agent any more.
    """
    module = _module(reference["module"], reference["file"])
    try:
        found: Any = reduce(getattr, reference["name"].split("."), module)
    except AttributeError:
        found = None
    if callable(found) and not isinstance(found, Agent) and reference["maker"] is not None:
        maker, name, named = reference["maker"]
        found = getattr(importlib.import_module(maker), name)(found, **named)
    if not isinstance(found, Agent):
        raise ImportError(f"{reference['file']} has no agent called {reference['name']}")
    return found


def _module(name: str, file: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    if name != MAIN and importlib.util.find_spec(name) is not None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
