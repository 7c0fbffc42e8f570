"""The calls that describe all calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from quart import Blueprint, Response, current_app, render_template

from api.calls import json_response, tagged
from api.dashboard.assets import VERSION
from api.openapi.document import document
from api.openapi.page import page_of

if TYPE_CHECKING:
    from quart_trio import QuartTrio

blueprint = Blueprint("openapi", __name__, template_folder="templates")

_MADE = "quiesce.openapi"


@blueprint.get("/openapi.json")
async def describe() -> Response:
    """Describe every call, for machines: OpenAPI 3.1."""
    return await tagged(json_response(_document()))


@blueprint.get("/docs")
async def docs() -> Response:
    """Describe every call, for people."""
    html = await render_template(
        "reference.html", assets=f"/dashboard/assets/{VERSION}", **page_of(_document())._asdict()
    )
    return Response(html, content_type="text/html; charset=utf-8")


def _document() -> dict[str, Any]:
    """Return the document of the application, made when it is first asked for."""
    made = current_app.extensions
    if _MADE not in made:
        made[_MADE] = document(cast("QuartTrio", current_app))
    found: dict[str, Any] = made[_MADE]
    return found
