"""A scenario in a process of its own, for tests in which a bug may hang or end everything.

Services of the orchestrator are shielded, so no ``fail_after`` in the same process could end a
scenario that hangs in them.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def alone(
    scenario: Callable[..., Awaitable[Any]], *args: str, virtual: bool = True, within_s: float = 15
) -> Any:
    """Run a scenario of a test module in a fresh process and return what it returns, as JSON.

    Args:
        virtual: with a clock that jumps whenever all tasks wait.
        within_s: the process is killed after so many real seconds.

    Raises:
        AssertionError: it hung, or ended by an error; says which.
    """
    command = [sys.executable, "-m", "tests.race.isolated", "virtual" if virtual else "real"]
    command += [scenario.__module__, scenario.__qualname__, *args]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        said = (hung.stderr or b"").decode()
        raise AssertionError(f"{scenario.__name__} hung for {within_s} s\n{said}") from None
    if done.returncode:
        raise AssertionError(f"{scenario.__name__} died\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the scenario that the command line names."""
    kind, module, name, *args = sys.argv[1:]
    scenario = getattr(importlib.import_module(module), name)
    clock = trio.testing.MockClock(autojump_threshold=0) if kind == "virtual" else None
    print(json.dumps(trio.run(scenario, *args, clock=clock), default=str))


if __name__ == "__main__":
    main()
