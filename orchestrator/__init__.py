"""Quiesce: a run orchestrator on Trio."""
