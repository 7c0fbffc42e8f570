"""Recurring starts.

- ``schedule``: one of them, as a plain value;
- ``cron``: when it is due;
- ``book``: all of them, and the alarm that fires them.
"""

from __future__ import annotations

from orchestrator.schedules.book import Schedules as Schedules
from orchestrator.schedules.schedule import Schedule as Schedule
