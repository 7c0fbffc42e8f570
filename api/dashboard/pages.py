"""The pages, which are shells, and the files that they are made with."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, abort, json, render_template

from api.dashboard.assets import FILES, VERSION
from orchestrator import RunStatus, available_actions

blueprint = Blueprint("dashboard", __name__, template_folder="templates")

# Nothing but our own files may act on a page, and nobody may frame it: a click is meant.
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
_PAGE = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@blueprint.get("/")
async def runs() -> Response:
    """Show the page of all runs."""
    return await _page("runs.html")


@blueprint.get("/dashboard/runs/<run_id>")
async def run(run_id: str) -> Response:
    """Show the page of one run; whether there is one its modules find out."""
    return await _page("run.html", run_id=run_id)


@blueprint.get("/dashboard/schedules")
async def schedules() -> Response:
    """Show the page of recurring starts."""
    return await _page("schedules.html")


@blueprint.get("/dashboard/login")
async def login() -> Response:
    """Show the page where a person gives a token."""
    return await _page("login.html")


@blueprint.get("/dashboard/assets/<version>/<name>")
async def asset(version: str, name: str) -> Response:
    """Hand out a file of the pages. Its address changes with its content, so it is kept."""
    file = FILES.get(name)
    if file is None or version != VERSION:
        abort(404, f"the dashboard has no file {name!r} of that version")
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(file.content, content_type=file.media_type, headers=headers)


async def _page(template: str, **values: Any) -> Response:
    moves = {status: available_actions(status) for status in RunStatus}
    html = await render_template(
        template, assets=f"/dashboard/assets/{VERSION}", moves=json.dumps(moves), **values
    )
    return Response(html, content_type="text/html; charset=utf-8", headers=_PAGE)
