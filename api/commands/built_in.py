"""The agents that are always there."""

from __future__ import annotations

from orchestrator.agents.chat import chat
from orchestrator.agents.command import command
from orchestrator.agents.crawl import crawl
from orchestrator.agents.ingest import ingest
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook

BUILT_IN = (chat, command, crawl, ingest, job, playbook)
