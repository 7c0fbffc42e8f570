"""An event as one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.text import Text

from api.sse import ending_of
from api.terminal.look import AMBER, GREY, RED, clean, clock_of, style_of, time_of
from api.terminal.questions import QUESTION, wanted_in
from orchestrator import RunStatus

if TYPE_CHECKING:
    from rich.console import Console

    from api.terminal.tree import RunTree
    from orchestrator import Event

# Of an agent's own event so much is shown.
SHOWN_DATA = 200

_PAUSED = {"pausing": RunStatus.PAUSING, "paused": RunStatus.PAUSED}
_LOG_STYLES = {"debug": GREY, "warning": AMBER, "error": RED}


def say_line(console: Console, line: Text | str) -> None:
    """Print one line as it is: a line that is too long for a terminal wraps, and is not cut."""
    console.print(line, soft_wrap=True)


def line_of(event: Event, tree: RunTree) -> Text:
    """Return when it happened, in which run, and what."""
    at = time_of(event.at)
    clock = at.astimezone().strftime("%H:%M:%S") if at is not None else ""
    said, style = _said(event)
    return Text.assemble(
        (f"{clock}  ", GREY), (f"{tree.name(event.run_id)}  ", "bold"), (clean(said), style)
    )


def _said(event: Event) -> tuple[str, str]:
    status = ending_of(event)
    if status is not None:
        return _ending(status, event.data), style_of(status)
    data = event.data
    match event.type.split("."):
        case ["run", "queued"]:
            return f"queued as {event.run_id}", ""
        case ["run", "started"]:
            again = f" (attempt {data['attempt']})" if data["attempt"] > 1 else ""
            return f"running{again}", style_of(RunStatus.RUNNING)
        case ["run", "progress"]:
            return f"{data['percent']:.0f} %  {data['message']}", ""
        case ["run", "log"]:
            return data["message"], _LOG_STYLES.get(data["level"], "")
        case ["run", "stopping" | "escalated" as what]:
            return _stopping(what, data), AMBER
        case ["run", "partial"]:
            return f"partial result, {data['size']} bytes", GREY
        case ["run", "artifact"]:
            return f"artifact {data['name']}, {data['size']} bytes", GREY
        case ["run", "asked"]:
            return f"asks: {data['question']} ({wanted_in(data['schema'])})", QUESTION
        case ["run", "answered"]:
            by = f" by {data['answered_by']}" if data["answered_by"] else ""
            return f"answered{by}: {_json(data['answer'])}", ""
        case ["run", "deadline"]:
            return _deadline(data), ""
        case ["run", "pausing" | "paused" | "resumed" as what]:
            return _paused(what, data), style_of(_PAUSED.get(what, RunStatus.RUNNING))
        case ["run", what]:
            return what, ""
        case ["step", "finished"]:
            how = "was done before" if data["reused"] else f"done after {data['seconds']:.3g} s"
            return f"step {data['name']} {how}", ""
        case ["operation", what]:
            return _operation(what, data), AMBER if what in ("cut", "refused") else GREY
        case _:
            return f"{event.type} {_json(data)}", ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:SHOWN_DATA]


def _paused(what: str, data: dict[str, Any]) -> str:
    if what == "resumed" and data.get("step"):
        what = "makes a step"
    by = f", asked by {data['requested_by']}" if data.get("requested_by") else ""
    why = f": {data['reason']}" if data.get("reason") else ""
    return f"{what}{by}{why}"


def _deadline(data: dict[str, Any]) -> str:
    by = f", asked by {data['requested_by']}" if data["requested_by"] else ""
    at = data["deadline_at"]
    return ("has no deadline any more" if at is None else f"has until {clock_of(at)}") + by


def _ending(status: RunStatus, data: dict[str, Any]) -> str:
    words = status.replace("_", " ")
    if data["error"]:
        return f"{words}: {data['error']['type']}: {data['error']['message']}"
    seconds = (data["receipt"] or {}).get("seconds")
    return words if seconds is None else f"{words} {seconds:.3g} s after it was asked to stop"


def _stopping(what: str, data: dict[str, Any]) -> str:
    why = f": {data['reason']}" if data["reason"] else ""
    if what == "escalated":
        return f"escalated to {data['mode']} by {data['by']}{why}"
    patience = f", up to {data['grace_s']:g} s for what is in flight" if data["grace_s"] else ""
    return f"stopping ({data['mode']}{patience}), asked by {data['source']}{why}"


def _operation(what: str, data: dict[str, Any]) -> str:
    name = f"{data['kind']} {data['label']}".rstrip()
    took = f" after {data['seconds']:.3g} s" if "seconds" in data else ""
    more = data.get("error") or data.get("effect")
    return f"{name} {what}{took}{f': {more}' if more else ''}"
