"""A server of the Model Context Protocol that is a process, written out to the last message.

It notes what it sees as files in a folder: its `pid`, that it is `waiting`, what was `cancelled`.
The tool `wait` answers when there is a file `go`. With the word `stubborn` it ends neither when its
input does nor by SIGTERM. The tool `fork` leaves a process behind; `mumble` says what is no text
before it answers, `halve` answers with half a character, `blunder` with what is no answer; `flood`
says what has no end, and `nag` asks for ever and hears no answer.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

VERSION = "2025-06-18"
TOOLS = [
    {"name": name, "description": f"To {name}.", "inputSchema": {"type": "object"}}
    for name in ("add", "fail", "wait")
]
NAG = {"messages": [], "maxTokens": 1}


class Toolbox:
    """The server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[object] = []

    def note(self, name: str, text: str) -> None:
        """Write a note, whole at once."""
        (self._folder / f".{name}").write_text(text)
        (self._folder / f".{name}").rename(self._folder / name)

    def serve(self) -> None:
        """Serve until the input ends."""
        self.note("pid", str(os.getpid()))
        buffer = b""
        while True:
            if self._waiting and (self._folder / "go").exists():
                self._answer(self._waiting.pop(), _text("waited"))
            if select.select([0], [], [], 0.02)[0]:
                if not (piece := os.read(0, 65536)):
                    return
                *lines, buffer = (buffer + piece).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        number, given = message.get("id"), message.get("params", {})
        match message["method"]:
            case "initialize":
                about = {"protocolVersion": VERSION, "capabilities": {"tools": {}}}
                self._answer(number, about | {"serverInfo": {"name": "toolbox", "version": "1"}})
            case "tools/list":
                first = "cursor" not in given
                more = {"tools": TOOLS[:2], "nextCursor": "2"} if first else {"tools": TOOLS[2:]}
                self._answer(number, more)
            case "tools/call":
                self._call(number, given["name"], given.get("arguments", {}))
            case "notifications/cancelled":
                self._waiting = []
                self.note("cancelled", json.dumps(given))
            case _ if number is not None:
                error = {"code": -32601, "message": "not found"}
                self._send({"id": number, "error": error})

    def _call(self, number: object, name: str, given: dict[str, Any]) -> None:
        match name:
            case "add":
                total = given["a"] + given["b"]
                self._answer(number, _text(str(total)) | {"structuredContent": {"sum": total}})
            case "wait":
                self._waiting.append(number)
                self.note("waiting", "")
            case "die":
                os._exit(1)
            case "fork":
                child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
                self.note("child", str(child.pid))
                self._answer(number, _text("forked"))
            case "mumble":
                os.write(1, b"\xff\xfe\n")
                self._answer(number, _text("mumbled"))
            case "halve":
                self._answer(number, _text("half \ud83d"))
            case "blunder":
                self._answer(number, 7)
            case "flood":
                while True:
                    os.write(1, b"x" * 65536)
            case "nag":
                for asked in itertools.count():
                    self._send(
                        {"id": f"nag {asked}", "method": "sampling/createMessage", "params": NAG}
                    )
                    if asked == 1000:
                        self.note("waiting", "")
            case _:
                self._answer(number, _text("nothing there") | {"isError": True})

    def _answer(self, number: object, result: object) -> None:
        self._send({"id": number, "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


if __name__ == "__main__":
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Toolbox(Path(sys.argv[1])).serve()
    while "stubborn" in sys.argv:
        signal.pause()
