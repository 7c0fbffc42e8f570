"""The interfaces of the five systems that asked for Quiesce, so that their clients go on working.

A dialect translates paths, names and words, and holds nothing: what it asks of runs is what the
calls of our own ask, with the same rights. None is on unless it is named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quart_trio import QuartTrio

# The modules whose blueprints they are; a server imports those that it needs.
DIALECTS: dict[str, tuple[str, ...]] = {
    "archon": ("api.dialects.archon", "api.dialects.archon_rooms"),
    "beacon": ("api.dialects.beacon",),
    "gofannon": (),  # its one call, `POST /runs/{id}/stop`, is our own
    "ignition": ("api.dialects.ignition",),
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
        for module in DIALECTS[name]:
            app.register_blueprint(import_module(module).blueprint)
