"""The calls for what a run has brought: its partial result, its files, its latest picture."""

from __future__ import annotations

import re
from typing import Any

from quart import Blueprint, Response

from api.calls import json_response, tagged, the_orchestrator
from api.problems import problem

blueprint = Blueprint("files", __name__)

# The artifact that is the latest picture of a run.
VIEW = "view"
UNKNOWN_KIND = "application/octet-stream"

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;[ -~]*)?", re.ASCII)
# An agent made it, perhaps of what a stranger sent: never let a browser run it.
_HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


@blueprint.get("/runs/<run_id>/partial")
async def partial(run_id: str) -> Response:
    """Show the latest partial result, null if there is none."""
    await the_orchestrator().get(run_id)
    return await tagged(await json_response(await the_orchestrator().partial(run_id)))


@blueprint.get("/runs/<run_id>/artifacts")
async def artifacts(run_id: str) -> dict[str, Any]:
    """List the files that were kept with a run."""
    await the_orchestrator().get(run_id)
    kept = await the_orchestrator().artifacts(run_id)
    return {
        "artifacts": [
            {"name": each.name, "media_type": each.media_type, "size": each.size} for each in kept
        ]
    }


@blueprint.get("/runs/<run_id>/artifacts/<name>")
async def artifact(run_id: str, name: str) -> Response:
    """Hand out one of those files."""
    return await _file(run_id, name)


@blueprint.get("/runs/<run_id>/view")
async def view(run_id: str) -> Response:
    """Show the latest picture of what the run is doing."""
    return await _file(run_id, VIEW)


async def _file(run_id: str, name: str) -> Response:
    orchestrator = the_orchestrator()
    record = await orchestrator.get(run_id)
    kept = {each.name: each for each in await orchestrator.artifacts(run_id)}
    data = await orchestrator.artifact(run_id, name)
    if name not in kept or data is None:
        why = f"run {run_id} has no artifact {name!r}"
        return problem(404, "no-artifact", why, run_id=run_id, run_status=record.status)
    kind = kept[name].media_type
    kind = kind if _MEDIA_TYPE.fullmatch(kind) else UNKNOWN_KIND
    response = Response(data, content_type=kind, headers=_HARMLESS)
    # Pictures and plain text are shown where they are; anything else is saved.
    if not kind.startswith("image/") and kind.partition(";")[0] != "text/plain":
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return await tagged(response)
