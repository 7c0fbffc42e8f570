"""Calls of language models, as operations on the run's own HTTP client.

- ``request``: what is asked, checked before anything happens;
- ``client``: the official client, and the tries that one call may take;
- ``stream``: reading the answer, and telling its pieces;
- ``answer``: what the agent gets; ``spending``: what it cost;
- ``call``: the whole.
"""

from __future__ import annotations

from orchestrator.llm.answer import Reply as Reply
from orchestrator.llm.answer import ToolCall as ToolCall
from orchestrator.llm.call import call_model as call_model
