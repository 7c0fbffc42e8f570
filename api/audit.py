"""The call that lists who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Blueprint, current_app

from api.calls import query
from api.schema import AuditQuery, parse

if TYPE_CHECKING:
    from api.auth.audit import Trail

blueprint = Blueprint("audit", __name__)


@blueprint.get("/audit")
async def audit() -> dict[str, Any]:
    """List who did what, newest first."""
    asked = parse(AuditQuery, query())
    trail: Trail = current_app.extensions["quiesce.trail"]
    entries, following = await trail.page(asked.where(), after=asked.after, limit=asked.limit)
    return {"audit": entries, "next": following}
