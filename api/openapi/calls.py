"""The calls that describe all calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from quart import Blueprint, Response, current_app, json, render_template

from api.calls import tagged
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
    return await tagged(Response((await _descriptions()).json, content_type="application/json"))


@blueprint.get("/docs")
async def docs() -> Response:
    """Describe every call, for people."""
    return Response((await _descriptions()).page, content_type="text/html; charset=utf-8")


class _Descriptions(NamedTuple):
    json: str
    page: str


async def _descriptions() -> _Descriptions:
    """Return what describes the application, made when it is first asked for.

    Anybody may ask, as often as they like, and to make it would hold up every run each time.
    """
    made = current_app.extensions
    if _MADE not in made:
        described = document(cast("QuartTrio", current_app))
        told = page_of(described)._asdict()
        page = await render_template(
            "reference.html", assets=f"/dashboard/assets/{VERSION}", **told
        )
        made[_MADE] = _Descriptions(json.dumps(described), page)
    found: _Descriptions = made[_MADE]
    return found
