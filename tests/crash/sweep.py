"""Every moment at which the scripted session may be killed, and what is left then.

``python -m tests.crash.sweep FOLDER`` lives the session once and copies the store before each of
its writes, just before its commit, and when it is durable while nobody knows: that is what a kill
leaves behind then. ``python -m tests.crash.sweep FOLDER FIRST STEP`` lives it anew for every
STEP-th write, and really dies there. Where that is before a write, a second life dies in its
recovery. Then what is left is opened for good, and all of it checked; JSON lines say what was.

Each life is a fork of this process, which has everything imported and runs nothing itself; so one
costs what it does, and not the start of an interpreter.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from orchestrator import open_orchestrator
from orchestrator.store import SqliteStore
from tests.crash.aftermath import check
from tests.crash.session import ALL, Ear, Say, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOMENTS = ("before", "within", "after")
NAME = "runs.db"
# Seconds that no life takes, on any machine.
HANGS_S = 120

Said: TypeAlias = "list[dict[str, Any]]"


def at_writes(reached: Callable[[int, str], None]) -> None:
    """Let this process call that at each moment of each write, in the thread that writes."""
    write, numbers = SqliteStore._write, count(1)

    def commits(n: int) -> Callable[[], bool]:
        def hook() -> bool:
            reached(n, "within")
            # Any other answer would turn it into a rollback.
            return False

        return hook

    def watched(store: SqliteStore, batch: Sequence[Any], *tell: Any) -> None:
        n = next(numbers)
        reached(n, "before")
        store._writer.set_commit_hook(commits(n))
        write(store, batch, *tell)
        reached(n, "after")

    # In this process, which ends soon.
    SqliteStore._write = watched  # type: ignore[method-assign, assignment]


def die() -> None:
    """Kill this process, so that nothing in it can notice."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(n: int, moment: str) -> None:
    """Let this process die at a moment of the n-th write of a store."""
    at_writes(lambda *reached: die() if reached == (n, moment) else None)


def forked(body: Callable[[Say], None]) -> tuple[Said, bool]:
    """Call the body in a fork; return what that has said, and whether it was killed.

    Raises:
        AssertionError: it failed; why is on stderr.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_the_fork(body, writing)
    os.close(writing)
    with os.fdopen(reading) as lines:
        said = [json.loads(line) for line in lines]
    how = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGKILL
    assert killed or how == 0, f"it ended as {how}"
    return said, killed


def _in_the_fork(body: Callable[[Say], None], writing: int) -> None:
    def say(**words: Any) -> None:
        os.write(writing, (json.dumps(words) + "\n").encode())

    # What hangs is ended by that, and so told as the failure that it is.
    signal.alarm(HANGS_S)
    try:
        body(say)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


# What the session leaves


def copied(folder: Path) -> Iterator[tuple[int, str, Path, Said]]:
    """Live the session once; yield the store at each moment, and what had been said by then."""
    with TemporaryDirectory(dir=folder) as place:

        def live(say: Say) -> None:
            def copy(n: int, moment: str) -> None:
                # Said first: what is heard before that must be in the copy.
                say(copy=[n, moment])
                _copy(Path(place), folder / f"{n}{moment}")

            at_writes(copy)
            trio.run(session, f"sqlite:///{place}/{NAME}", say)

        said, _ = forked(live)
    before: set[str] = set()
    for told, words in enumerate(said):
        if "copy" not in words:
            continue
        n, moment = words["copy"]
        copy = folder / f"{n}{moment}"
        files = {each.name for each in copy.glob(f"{NAME}.files/*")}
        # Without a commit only files are new.
        if moment != "within" or files != before:
            yield n, moment, copy, said[:told]
        before = files


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for each in source.iterdir():
        if each.is_dir():
            shutil.copytree(each, target / each.name)
        elif not each.name.endswith("-shm"):
            # That one is memory, and not on the disk.
            shutil.copy(each, target)


def killed(folder: Path, first: int, step: int) -> Iterator[tuple[int, str, Path, Said]]:
    """Live the session again and again, and die a little later each time."""
    for n in count(first, step):
        for moment in MOMENTS:
            place = folder / f"{n}{moment}"
            place.mkdir()

            def live(say: Say, n: int = n, moment: str = moment, place: Path = place) -> None:
                die_at(n, moment)
                trio.run(session, f"sqlite:///{place}/{NAME}", say)

            said, died = forked(live)
            if not died:
                return
            yield n, moment, place, said


# What becomes of it


def recover(path: Path, n: int, moment: str) -> Said:
    """Open what is left, and die at a moment of the n-th write of that, or else once it is open."""

    def live(say: Say) -> None:
        async def opened() -> None:
            async with open_orchestrator(f"sqlite:///{path}", agents=ALL, observers=[Ear(say)]):
                die()

        die_at(n, moment)
        trio.run(opened)

    said, died = forked(live)
    assert died
    return said


def main(folder: Path, *steps: int) -> None:
    """Look at every point."""
    for n, moment, place, said in killed(folder, *steps) if steps else copied(folder):
        try:
            if moment == "before":
                said += recover(place / NAME, 1 + n % 2, MOMENTS[n % 3])
            found, _ = forked(lambda say: check(place / NAME, said, say))  # noqa: B023  # at once
        except AssertionError as error:
            (folder / "said.json").write_text(json.dumps(said))
            error.add_note(f"write {n}, {moment}: see {place} and said.json beside it")
            raise
        shutil.rmtree(place)
        print(json.dumps({"n": n, "moment": moment} | found[-1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
