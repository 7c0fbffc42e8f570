"""The log of a server: what it says, and how that is written.

setup     how all logging of the process is written: as text for people, or as JSON
fields    what every line has: its run, no secrets, a bounded length
writer    writing that never waits for whoever reads
runs      what becomes of runs, as an observer of every event
calls     the calls of the interface
"""

from __future__ import annotations

from api.logs.calls import log_answer as log_answer
from api.logs.runs import RunLog as RunLog
from api.logs.setup import configure as configure
