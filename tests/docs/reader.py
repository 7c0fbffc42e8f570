"""A reader who does what a page says, in order, in an empty folder.

What the blocks of a page mean:

- ``python`` whose first line is ``# name.py``: saved as that file; any other is run as a script;
- ``yaml`` whose first line is ``# name.yaml``: saved as that file;
- ``js``: a module that Node runs, beside the stock client of Socket.IO;
- ``sh``: commands to paste, each of which must succeed;
- ``console``: a transcript; each line after ``$ `` is a command, the others what it prints;
- ``text`` right after a ``python`` or ``js`` block: what that prints;
- ``json`` right after an ``sh`` block: what that prints, the same in shape.

In what is printed ``…`` stands for anything, and an id, a time of day, a duration or a gap for any
other (``ALIKE``). A command that serves (``SERVES``) goes on in the
background until the page ends, as it would in a second terminal. Ports of the form 80xx are
replaced by free ones, so that pages can be tested while something else listens there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.dialects.clients import NODE, node_with_client
from tests.docs.pages import blocks_of
from tests.docs.shell import ANSWER_S, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.docs.pages import Block

BIN = os.path.dirname(sys.executable)
SERVES = ("quiesce serve", "python3 -m http.server")

# What may be printed -> what the page shows in its place.
ALIKE = {
    r".*": r"…",
    r"run_[0-9a-f]{20}": r"run_[0-9a-f]{20}",
    r"\d\d:\d\d:\d\d": r"\d\d:\d\d:\d\d",
    r"\d+\.\d+ s": r"\d+\.\d+ s\b",
    r" {2,}": r" {2,}",
}

# Commands that are not run, and why.
EXEMPT = {
    "make run": "sets up an environment from the package registry, and serves until Ctrl-C",
    "make test": "is what runs this test",
    "python3 -m venv": "the test runs in an environment already",
    ". .venv/bin/activate": "the test runs in an environment already",
    "pip install": "needs the package registry",
}


class Reader:
    """Plays one page."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("PYTHONUNBUFFERED", "1")
        # What is here for other tests takes seconds to import, in each session of pytest.
        monkeypatch.setenv("PYTEST_ADDOPTS", "-pno:schemathesis -pno:langsmith_plugin")
        self.folder = folder
        self.ports: dict[str, str] = {}
        monkeypatch.setenv("QUIESCE_SERVER", self.with_ports("http://127.0.0.1:8080"))
        self.servers: list[subprocess.Popen[bytes]] = []
        self.shell = Shell(folder)
        self.printed = ""

    def read(self, page: Path) -> None:
        """Do what the page says."""
        before = None
        for block in blocks_of(page):
            self._do(block, before)
            before = block

    def with_ports(self, text: str) -> str:
        """Replace the ports of the text."""
        return re.sub(r"(?<=[: ])80\d\d\b", lambda port: self._port(port[0]), text)

    def close(self) -> None:
        """End what was started, whatever of it fails to end well."""
        with contextlib.ExitStack() as ending:
            for server in self.servers:
                ending.callback(end_server, server)
            self.shell.close()

    def _do(self, block: Block, before: Block | None) -> None:
        text = self.with_ports(block.text)
        match block.language, before.language if before is not None else "":
            case (("python" | "yaml"), _) if block.file_name is not None:
                (self.folder / block.file_name).write_text(text)
            case "python", _:
                self.printed = run_script(self.folder, text)
            case "js", _:
                self.printed = run_module(self.folder, text, block.where)
            case "sh", _:
                self._run_all(text.splitlines(), text, block)
            case "console", _:
                self._play(text, block)
            case "text", "python" | "js":
                assert_printed(self.printed, text, block)
            case "json", "sh":
                assert_same_shape(json.loads(self.printed), json.loads(text), block.where)
            case _:
                pass

    def _run_all(self, lines: list[str], text: str, block: Block) -> None:
        if lines[0].startswith(SERVES):
            assert len(lines) == 1, f"{block.where}: a server needs a block of its own"
            self._serve(lines[0])
        elif not is_exempt(lines):
            status, self.printed = self.shell.run(f"set -eo pipefail\n{text}\nset +eo pipefail")
            assert status == 0, f"{block.where}: status {status}, and it said:\n{self.printed}"

    def _play(self, text: str, block: Block) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if not is_exempt([command]):
                _, self.printed = self.shell.run(command)
                assert_printed(self.printed, expected, block)

    def _serve(self, command: str) -> None:
        for server in self.servers:  # the one before must have ended, or the page says so falsely
            server.wait(ANSWER_S)
        words = shlex.split(command)
        if words[0] == "quiesce" and "--port" not in words:
            words += ["--port", self._port("8080")]
        port = next(word for word in words if word in self.ports.values())
        log = (self.folder / "server.log").open("ab")
        with log:
            server = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log)
        self.servers.append(server)
        wait_for_port(int(port), server, self.folder / "server.log")

    def _port(self, shown: str) -> str:
        if shown not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.ports[shown] = str(free.getsockname()[1])
        return self.ports[shown]


def is_exempt(lines: list[str]) -> bool:
    """Whether every command is one of those that are not run."""
    return all(line.startswith(tuple(EXEMPT)) for line in lines)


def run_script(folder: Path, text: str) -> str:
    """Run a script as ``python script.py`` would, and return what it prints."""
    script = folder / "script.py"
    script.write_text(text)
    # In a process of its own what stands beside a script wins over what is installed.
    beside = {file.stem for file in folder.glob("*.py")}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in beside and not _is_in(folder, module):
            del sys.modules[name]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), in_time():
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def run_module(folder: Path, text: str, where: str) -> str:
    """Run a module as ``node script.mjs`` would, and return what it prints."""
    node = node_with_client()
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(NODE / "node_modules")
    script = folder / "script.mjs"
    script.write_text(text)
    command = [node, str(script)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=ANSWER_S)
    assert done.returncode == 0, f"{where}: status {done.returncode}, and it said:\n{done.stderr}"
    return done.stdout


@contextmanager
def in_time() -> Iterator[None]:
    """Fail, instead of hanging, when a script does not end."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"the script has not ended within {ANSWER_S} s")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, ANSWER_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def fresh_modules(folder: Path) -> Iterator[None]:
    """Forget the modules that scripts import from the folder: the next page has its own."""
    before = dict(sys.modules)
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if _is_in(folder, module):
                del sys.modules[name]
        for name in before.keys() - sys.modules.keys():
            sys.modules[name] = before[name]


def _is_in(folder: Path, module: object) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(folder))


def wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens there."""
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)  # another process's socket: there is no event to wait for
        else:
            return
    raise AssertionError(f"{server.args!r} does not listen; it said:\n{log.read_text()}")


def end_server(server: subprocess.Popen[bytes]) -> None:
    """End a server that was started, as Ctrl-C would; it must end well."""
    if server.poll() is not None:
        return
    server.send_signal(signal.SIGINT)
    try:
        status = server.wait(ANSWER_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        raise
    if isinstance(server.args, list) and server.args[0] == "quiesce":
        assert status == 0


def assert_printed(printed: str, shown: str, block: Block) -> None:
    """Compare what was printed with what the page shows."""
    pattern = "".join(
        r"(?s:.*)" if line.strip() == "…" else pattern_of(line) + r"\n"
        for line in shown.rstrip().splitlines()
    )
    said = "".join(line.rstrip() + "\n" for line in printed.rstrip().splitlines())
    assert re.fullmatch(pattern, said), f"{block.where}: it printed\n{said}"


def pattern_of(line: str) -> str:
    """Return the pattern of a line that is shown."""
    parts = re.split("(" + "|".join(f"(?:{like})" for like in ALIKE.values()) + ")", line.rstrip())
    return "".join(_pattern_of_part(part) for part in parts)


def _pattern_of_part(part: str) -> str:
    for meaning, like in ALIKE.items():
        if re.fullmatch(like, part):
            return meaning
    return re.escape(part)


def assert_same_shape(found: Any, shown: Any, where: str) -> None:
    """Compare two JSON values: the same names everywhere, and lists alike in their first item."""
    if isinstance(found, dict) and isinstance(shown, dict):
        assert list(found) == list(shown), f"{where}: {list(found)} is not {list(shown)}"
        for name, value in shown.items():
            assert_same_shape(found[name], value, f"{where}: {name}")
    elif isinstance(found, list) and isinstance(shown, list) and found and shown:
        assert_same_shape(found[0], shown[0], f"{where}[0]")
    elif found is not None and shown is not None:
        assert isinstance(found, list) == isinstance(shown, list), where
        assert isinstance(found, dict) == isinstance(shown, dict), where
