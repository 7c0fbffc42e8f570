"""The stock client of Socket.IO for Python, as a process like ``node/client.js``."""

from __future__ import annotations

import json
import sys
from typing import Any

import socketio  # type: ignore[import-untyped]


def say(*words: Any) -> None:
    print(json.dumps(words), flush=True)


def main(url: str, transports: str = "") -> None:
    """Say what is heard, and emit what is told, until there is nothing more to read."""
    client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.2)

    def connected() -> None:
        say("connect")

    client.on("connect", connected)
    client.on("disconnect", lambda reason: say("disconnect"))
    client.on("*", say)
    client.connect(url, transports=[transports] if transports else None)
    say("transport", client.transport())
    for line in sys.stdin:
        name, body = json.loads(line)
        client.emit(name, body, callback=lambda answer: say("answer", answer))
    client.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
