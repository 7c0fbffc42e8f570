"""Archon's calls: crawls and uploads are runs of ``crawl`` and ``ingest``, known by their ids."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator
from quart import Blueprint, Response, current_app, g, request

from api import acts
from api.acts import Stop
from api.auth.guard import caller
from api.auth.noting import kind_of
from api.calls import json_response, query, tagged, the_orchestrator
from api.dialects.archon_progress import STOP, progress_of, stop_message
from api.dialects.words import record_of
from api.problems import about, from_error
from api.schema import Order, StartOrder, StopOrder, parse
from orchestrator import (
    File,
    InvalidInput,
    OrchestratorError,
    RunEnded,
    RunStatus,
    StoreUnavailable,
    UnknownRun,
)

if TYPE_CHECKING:
    from orchestrator import Knowledge, RunRecord

blueprint = Blueprint("archon", __name__)

CRAWL = "crawl"
INGEST = "ingest"
# The endpoint whose errors are Archon's.
STOPS = "archon.stop"
NO_TASK = "No active task for given progress_id"
# Lines of the log that are shown.
LOG_LINES = 100

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_. -]+")


class _ArchonOrder(Order):
    """What Archon's clients say beside; it is taken, and changes nothing."""

    knowledge_type: Any = None
    update_frequency: Any = None
    extract_code_examples: Any = None


class CrawlOrder(_ArchonOrder):
    """The body of ``POST /api/knowledge-items/crawl``."""

    url: Any
    max_depth: Any = None
    max_pages: Any = None
    tags: Any = None


class UploadOrder(_ArchonOrder):
    """The fields of ``POST /api/documents/upload``, beside the file."""

    tags: Any = None

    @field_validator("tags")
    @classmethod
    def _read_tags(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given.lstrip().startswith("["):
            try:
                return json.loads(given)
            except (ValueError, RecursionError):
                raise ValueError("is no JSON array of strings") from None
        return [tag.strip() for tag in given.split(",") if tag.strip()]


class SearchQuery(Order):
    """The query of ``GET /api/knowledge-items``; ``knowledge_type`` changes nothing."""

    search: str = Field("", max_length=1_000)
    page: int = Field(1, ge=1, le=10_000)
    per_page: int = Field(20, ge=1, le=100)
    knowledge_type: str | None = None


@blueprint.post("/api/knowledge-items/crawl")
async def crawl() -> dict[str, Any]:
    """Start a crawl."""
    order = parse(CrawlOrder, g.body).model_dump(exclude_none=True)
    given: dict[str, Any] = {n: order[n] for n in ("url", "max_depth", "max_pages") if n in order}
    return await _start(CRAWL, given, order.get("tags"), "Crawling started")


@blueprint.post("/api/documents/upload")
async def upload() -> dict[str, Any]:
    """Take in a document."""
    if len(g.files) != 1:
        raise InvalidInput([("file", "must be given, once, as multipart/form-data")])
    order = parse(UploadOrder, {} if g.body is None else g.body)
    (sent,) = g.files
    file = File(_plain(sent.name), sent.media_type, sent.data)
    given: dict[str, Any] = {"titles": {file.name: sent.name[-300:]}} if sent.name else {}
    return await _start(INGEST, given, order.tags, "Document upload started", file)


@blueprint.get("/api/crawl-progress/<run_id>", endpoint="crawl_progress")
@blueprint.get("/api/progress/<run_id>")
async def progress(run_id: str) -> Response:
    """Say how far a crawl or an upload is; ``If-None-Match`` saves the body."""
    await record_of(run_id, CRAWL, INGEST)
    record = await the_orchestrator().get(run_id)
    shown, logs = progress_of(record), await _said(record)
    # Of how it ends the run itself says nothing.
    if shown["log"] and shown["log"] not in logs:
        logs.append(shown["log"])
    return await tagged(await json_response(shown | {"logs": logs}))


@blueprint.post("/api/knowledge-items/stop/<run_id>")
async def stop(run_id: str) -> dict[str, Any]:
    """Stop a crawl or an upload at once; what it has stored is kept."""
    before = await record_of(run_id, CRAWL, INGEST)
    answer, _ = await Stop(run_id, parse(StopOrder, STOP)).answer()
    if before.status.is_terminal:
        raise RunEnded(before.id, before.status)
    message = stop_message(RunStatus(answer["run"]["status"]))
    return {"success": True, "message": message, "progressId": run_id}


@blueprint.get("/api/knowledge-items")
async def items() -> dict[str, Any]:
    """Search what the caller's crawls and uploads have found; without words, list it."""
    asked = parse(SearchQuery, query())
    knowledge: Knowledge = current_app.extensions["quiesce.knowledge"]
    found = await knowledge.search(
        asked.search,
        owner=None if caller().sees_all else caller().principal,
        skip=(asked.page - 1) * asked.per_page,
        limit=asked.per_page + 1,
    )
    shown = [
        {
            "progressId": each.run_id,
            "source": each.source,
            "title": each.title,
            "page": each.page,
            "start": each.start,
            "end": each.end,
            "text": each.text,
        }
        for each in found[: asked.per_page]
    ]
    more = len(found) > asked.per_page
    return {"items": shown, "page": asked.page, "per_page": asked.per_page, "more": more}


@blueprint.errorhandler(OrchestratorError)
async def refused(error: OrchestratorError) -> Response:
    """Answer errors of a stop as Archon does, and all others as everywhere."""
    as_everywhere = from_error(error, **about((request.view_args or {}).get("run_id", "")))
    if request.endpoint != STOPS:
        return as_everywhere
    match error:
        case UnknownRun() | RunEnded():
            status, why = 404, NO_TASK
        case StoreUnavailable():
            status, why = 500, str(error)
        case _:
            return as_everywhere
    g.result = await kind_of(as_everywhere)
    response = await json_response({"error": why})
    response.status_code = status
    return response


async def _start(
    agent: str, given: dict[str, Any], tags: Any, message: str, *files: File
) -> dict[str, Any]:
    options = {} if tags is None else {"tags": tags}
    try:
        order = StartOrder(agent=agent, input=given, options=options)
        run = await acts.start(order, files)
    except InvalidInput as error:
        problems = [(re.sub(r"^(input|options)\.", "", name), why) for name, why in error.problems]
        raise InvalidInput(problems) from None
    return {"success": True, "progressId": run.id, "message": message}


async def _said(record: RunRecord) -> list[str]:
    """Return the latest lines that a run has told of itself, each once until there is another."""
    orchestrator = the_orchestrator()
    last = await orchestrator.store.last_seq(record.root_id)
    after = max(0, last - LOG_LINES)
    told = await orchestrator.events(record.id, after=after, follow=False)
    kinds = ("run.log", "run.progress")
    lines = [event.data["message"] async for event in told if event.type in kinds]
    return [line for line, _ in groupby(lines) if line]


def _plain(name: str) -> str:
    """Return a name under which a file can be kept; its own is its title."""
    path = PurePath(_NOT_PLAIN.sub("_", name))
    return f"file_{path.stem[-100:].strip()}{path.suffix[:20].rstrip()}"
