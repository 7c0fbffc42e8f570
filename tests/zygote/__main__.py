"""The process that forks: ``python -m tests.zygote SOCKET``. One thread, and no event loop."""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
from typing import Any

from tests.zygote import MESSAGE

# What the commands of the tests import. Modules that are run themselves must not be among them.
PRELOADED = (
    "api.cli api.demo api.service orchestrator orchestrator.agents.crawl orchestrator.testing"
    " orchestrator.store.sqlite orchestrator.store.postgresql tests.race pytest trio.testing"
)


def main() -> None:
    """Fork what the socket asks for until it is closed; in a child, be what was asked for."""
    for name in PRELOADED.split():
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    # It is for those that are forked, which get the usual answer to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asking = socket.socket(fileno=int(sys.argv[1]))
    if child := _serve(asking):
        asking.close()
        _become(*child)


def _serve(asking: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Answer questions; return in a child, with what it has to be, or at the end with None."""
    while True:
        message, fds, _, _ = socket.recv_fds(asking, MESSAGE, 3)
        if not message:
            return None
        question = json.loads(message)
        if "wait" in question:
            answer: Any = os.waitpid(question["wait"], os.WNOHANG)
        elif answer := os.fork():
            for fd in fds:
                os.close(fd)
        else:
            return question, fds
        asking.send(json.dumps(answer).encode())


def _become(question: dict[str, Any], fds: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if question["session"]:
        os.setsid()
    elif question["group"] is not None and question["group"] >= 0:
        os.setpgid(0, question["group"])
    for standard, fd in enumerate(fds):
        os.dup2(fd, standard)
    for fd in fds:
        os.close(fd)
    os.chdir(question["cwd"])
    os.environ.clear()
    os.environ.update(question["environment"])
    _open_streams()
    match question["command"]:
        case ["-m", module, *arguments]:
            sys.argv = [module, *arguments]
            sys.path[0] = question["cwd"]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [program, *arguments]:
            sys.argv = [program, *arguments]
            sys.path[0] = os.path.dirname(program)
            runpy.run_path(program, run_name="__main__")


def _open_streams() -> None:
    """Open the standard streams as an interpreter does that starts."""
    lines = 1 if os.isatty(1) else -1
    sys.stdin = sys.__stdin__ = os.fdopen(0)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", lines)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace")  # type: ignore[misc]


if __name__ == "__main__":
    main()
