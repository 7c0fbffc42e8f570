"""A real PostgreSQL server for the tests: private, on a port of its own, and gone with them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from orchestrator.store.postgresql.connection import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = 15
READY_S = 30.0

# What is written survives the kill of any process here, and nobody pulls the plug of a test.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "listen_addresses": "127.0.0.1",
}


class Server:
    """One server; it is started by ``start``, and again after whatever a test did to it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make the files of the server."""
        self._folder.chmod(0o700)
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
        self._run("initdb", f"--pgdata={self._data}", "--locale=C", *options)

    def start(self, **settings: str) -> None:
        """Start it, unless it runs, and return when it answers."""
        chosen = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self._folder)}
        words = [f"--{name}={value}" for name, value in (chosen | settings).items()]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *words]
        until = time.monotonic() + READY_S
        while not self._answers():
            assert time.monotonic() < until, (self._folder / "log").read_text()
            # After a kill it does not start before all of its processes are gone.
            if self._process is None or self._process.poll() is not None:
                self._launch(command)
            time.sleep(0.02)  # another process's socket: there is no event to wait for

    def end(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: by SIGINT in order, by SIGQUIT at once, by SIGKILL without a word."""
        if self._process is None:
            return
        everyone = self._everyone()
        for pid in everyone if how is signal.SIGKILL else everyone[:1]:
            os.kill(pid, how)
        self._process.wait(READY_S)
        self._process = None
        while any(map(_lives, everyone)):
            time.sleep(0.005)  # processes of the server's: there is no event to wait for

    def freeze(self) -> None:
        """Let every process of the server stand still."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    @contextmanager
    def connection(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        """Connect for the time of the body, in autocommit mode."""
        with closing(psycopg.connect(self.url(database), autocommit=True)) as db:
            yield db

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute SQL, and return the rows if it has any."""
        with self.connection(database) as db:
            cursor = db.execute(sql.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def make_database(self, name: str) -> str:
        """Make an empty database, or empty one that is there, and return its URL."""
        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            return self.url(name)
        # Should another test have left it open.
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM {_OTHERS.format(name)}")
        tables = self.execute(_TABLES, name)
        if tables:
            names = ", ".join(f"{SCHEMA}.{table}" for (table,) in tables)
            self.execute(f"TRUNCATE {names} RESTART IDENTITY", name)
        return self.url(name)

    def sever_all(self, database: str) -> None:
        """End every session in a database, as an administrator would."""
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM {_OTHERS.format(database)}")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        done = subprocess.run(command, capture_output=True, text=True, **_unprivileged())
        assert done.returncode == 0, done.stderr

    def _launch(self, command: list[str]) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, **_unprivileged()
            )

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _signal(self, how: signal.Signals) -> None:
        for pid in self._everyone():
            os.kill(pid, how)

    def _everyone(self) -> list[int]:
        """Return the processes of the server, the first one first."""
        assert self._process is not None
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text()
        return [first, *map(int, children.split())]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


_OTHERS = "pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()"
_TABLES = f"SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}' AND tablename <> 'tenure'"


def _unprivileged() -> dict[str, Any]:
    """Return how to start a program of PostgreSQL's, which refuses to be run by root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL on this machine, None if there is none."""
    found = {
        int(folder.parent.name): folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if (folder / "postgres").exists() and folder.parent.name.isdigit()
    }
    newest = max(found, default=0)
    return found[newest] if newest >= OLDEST else None


@contextmanager
def serving(**settings: str) -> Iterator[Server]:
    """Make and start a server for the time of the body, with these settings beside ours.

    Where there is no PostgreSQL the tests that need it are skipped; in CI they fail.
    """
    found = programs()
    if found is None:
        why = f"NO POSTGRESQL {OLDEST}+ HERE, so the tests of it do not run: install postgresql"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    folder = Path(tempfile.mkdtemp(prefix="quiesce-pg-"))
    server = Server(found, folder)
    try:
        server.make()
        server.start(**settings)
        yield server
    finally:
        server.end()
        shutil.rmtree(folder)


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fail, instead of hanging, when the body does not end; a crude end, but for any test."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"it has not ended within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
