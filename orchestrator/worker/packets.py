"""What the orchestrator and the warden say to each other, packet by packet.

The socket keeps packets apart and carries file descriptors with them. Orders are small: what a
worker is to be lies in a file in memory that goes with the order to start it.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model import Json

# Bytes; the longest packet lists pids.
LONGEST = 1 << 16
# So many pids are listed in one packet at most.
PIDS = 4096
# What comes with an order to start a worker: its file, its control socket, stdout, stderr.
STARTING_FDS = 4


def search_path() -> list[str]:
    """Return where this process finds modules, in words that hold in any folder."""
    return [os.path.abspath(each) for each in sys.path]


def pack(message: dict[str, Json]) -> bytes:
    """Return a message as a packet."""
    return json.dumps(message, separators=(",", ":")).encode()


def unpack(packet: bytes) -> dict[str, Json]:
    """Return the message in a packet."""
    message: dict[str, Json] = json.loads(packet)
    return message


def with_fds(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """Return what ``sendmsg`` needs to send file descriptors along."""
    if not fds:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())]


def write_file(content: Json) -> int:
    """Return the descriptor of a new file in memory that holds JSON.

    Raises:
        TypeError, ValueError: the content has no JSON form.
    """
    data = json.dumps(content).encode()
    fd = os.memfd_create("quiesce", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


def read_file(fd: int) -> Json:
    """Return what ``write_file`` wrote, and close the file."""
    with open(fd, "rb") as file:
        # Whoever has the file shares one position in it.
        file.seek(0)
        return json.load(file)


# The program of a fresh interpreter, which finds our modules where the orchestrator found them.
# Its arguments are file descriptors and other numbers, first that of a file with ``path``.
BOOT = """\
import json, sys
with open(int(sys.argv[1]), closefd=False) as file:
    file.seek(0)
    sys.path[:] = json.load(file)["path"]
from orchestrator.worker.{module} import main
main(*map(int, sys.argv[1:]))
"""
