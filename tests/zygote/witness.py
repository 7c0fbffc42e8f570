"""``python -m tests.zygote.witness WORD``: says how it finds itself, and ends with its input."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading


def main() -> None:
    """Tell, then do what the standard input says: exit with a code, or wait for a signal."""
    found = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "path": sys.path[0],
        "module": sys.modules["__main__"].__spec__.name,  # type: ignore[union-attr]
        "environment": dict(os.environ),
        "leads a session": os.getsid(0) == os.getpid(),
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "files": sorted(os.listdir("/proc/self/fd"))[:-1],
        "threads": threading.active_count(),
    }
    print(json.dumps(found), flush=True)
    print("told", file=sys.stderr)
    sys.exit(int(sys.stdin.readline()))


if __name__ == "__main__":
    main()
