"""The interfaces of the five systems that asked for Quiesce, so that their clients go on working.

A dialect translates paths, names and words, and holds nothing: what it asks of runs is what the
calls of our own ask, with the same rights. None is on unless it is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.dialects import archon, beacon, ignition
from orchestrator import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quart import Blueprint
    from quart_trio import QuartTrio

# Gofannon's one call, `POST /runs/{id}/stop`, is our own.
DIALECTS: dict[str, Blueprint | None] = {
    "archon": archon.blueprint,
    "beacon": beacon.blueprint,
    "gofannon": None,
    "ignition": ignition.blueprint,
}


def install(app: QuartTrio, names: Iterable[str]) -> None:
    """Let the application answer the calls of those dialects.

    Raises:
        InvalidInput: there is none of that name.
    """
    for name in dict.fromkeys(names):
        if name not in DIALECTS:
            known = ", ".join(DIALECTS)
            raise InvalidInput([("dialect", f"{name!r} is none of: {known}")])
        blueprint = DIALECTS[name]
        if blueprint is not None:
            app.register_blueprint(blueprint)
