"""How all logging of a process is written: text for people, JSON for programs."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from api.logs.fields import add_run, clean
from api.logs.writer import Writer

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import Processor

Format = Literal["auto", "text", "json"]

# What every line begins with, whoever logs it, by which library.
_COMMON: tuple[Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    add_run,
)


def configure(
    format: Format = "auto", level: str = "info", stream: TextIO | None = None
) -> logging.Handler:
    """Write all logging of this process to ``stream`` (stderr) from now on. For programs only.

    Our own loggers speak from ``level`` on, libraries from ``warning`` on: at ``debug`` some of
    them write headers, and so the secrets in them.

    Args:
        format: ``auto`` is text on a terminal, and JSON elsewhere.

    Returns:
        the handler, which is that of the root logger; closing it writes what is left.
    """
    stream = stream or sys.stderr
    as_text = stream.isatty() if format == "auto" else format == "text"
    handler = Writer(stream)
    handler.setFormatter(_formatter(as_text=as_text, colours=stream.isatty()))
    root = logging.getLogger()
    for other in list(root.handlers):
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("quiesce").setLevel(level.upper())
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *_COMMON,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return handler


def _formatter(*, as_text: bool, colours: bool) -> ProcessorFormatter:
    renderer: Processor = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    if as_text:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    return ProcessorFormatter(
        foreign_pre_chain=[*_COMMON, ExtraAdder()],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            clean,
            renderer,
        ],
    )
