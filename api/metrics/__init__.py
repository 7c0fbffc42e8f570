"""What a server measures, for Prometheus.

counted   what happens, as an observer of every event
totals    what happens most often
live      what is there now, read when somebody asks
web       ``GET /metrics``
loop      how late the event loop is
labels    how many values a label may have
"""

from __future__ import annotations

from api.metrics.counted import Metrics as Metrics
from api.metrics.loop import watch_loop as watch_loop
from api.metrics.web import install as install
