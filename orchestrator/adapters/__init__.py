"""Agents of other frameworks, run as they are by agents of ours that are written for asyncio.

Each module needs the extra of its name and nothing else imports it: ``openai_agents``,
``langgraph``, ``pydantic_ai``. What they share is ``calls``: each call of a model or a tool that a
framework makes is an operation of the run; and ``tasks``: nothing that it starts goes on.
"""

from __future__ import annotations
