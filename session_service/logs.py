"""Logging: JSON lines, or colours on a terminal; every line of a request carries its id."""

import logging
import sys
from contextvars import ContextVar

import structlog
from structlog.typing import EventDict, Processor

REQUEST_ID: ContextVar[str] = ContextVar("request_id")


def _add_request_id(_: object, __: str, event: EventDict) -> EventDict:
    if request_id := REQUEST_ID.get(None):
        event["request_id"] = request_id
    return event


def set_up(level: str, form: str) -> None:
    """Send all logging to standard error. ``form`` is json, console, or auto for what fits it."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
