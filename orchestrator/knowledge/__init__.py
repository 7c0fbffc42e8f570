"""What runs have found to read, so that it can be searched.

search   the door: keeps the index up to date, and asks it
index    the index, in SQLite
chunks   a text in pieces that can be found, and read by themselves
"""

from __future__ import annotations

from orchestrator.knowledge.index import Passage as Passage
from orchestrator.knowledge.search import Knowledge as Knowledge
