"""Logging as JSON lines, or with colours on a terminal; the lines of a request have its id.

E.g. ``{"event": "worker started", "worker": 4712, "level": "info", "logger":
"session_service.process.workers", "timestamp": "2026-01-15T10:30:45.123456Z", "pid": 4711}``, and
``"request_id": "5f0c3a9be1d2-1a"`` in those of a request.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor

REQUEST_ID: ContextVar[str] = ContextVar("request_id")
_PID = os.getpid()  # asking for it takes 0.3 us
TRACE_ID: ContextVar[str] = ContextVar("trace_id")  # if the request is traced
_THROTTLE_SECONDS = 1.0
_PLACES = 200  # of defects, which are known at a time

_encode = msgspec.json.Encoder().encode


def _add_origin(_: object, __: str, event: EventDict) -> EventDict:
    """Add the process and, to the lines of a request, its ids."""
    event["pid"] = _PID
    if request_id := REQUEST_ID.get(None):
        event["request_id"] = request_id
    if trace_id := TRACE_ID.get(None):
        event["trace_id"] = trace_id
    return event


def _keep_text(_: object, __: str, event: EventDict) -> EventDict:
    """Restore the text of a line that has an extra field named ``event``, which replaced it."""
    record = event.get("_record")
    if record is not None and "event" in record.__dict__:
        event["event_"] = record.__dict__["event"]
        event["event"] = record.getMessage()
    return event


def set_up(level: str, form: str) -> None:
    """Log to standard error; ``form`` is json, console, or auto: console if it is a terminal."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _keep_text,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_origin,
    ]
    last: list[Processor] = (
        # The default is rich's, which shows local variables: messages and secrets.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr) if console else _JsonHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(_Defects(handler))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


class _JsonHandler(logging.StreamHandler[Any]):
    """Writes lines to standard error, some of them together at the end of a turn of the loop."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()  # the thread that sends traces logs, too

    def add(self, line: bytes) -> None:
        """Write a line at the end of the turn, or at once if there is no event loop."""
        with self._lock:
            self._waiting.append(line)
            is_first = len(self._waiting) == 1
        if is_first:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line at once, after those that wait."""
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Write the lines that wait for the end of the turn."""
        with self._lock:
            lines, self._waiting = self._waiting, []
        try:
            if lines:
                self.stream.write(b"".join(lines).decode())
            super().flush()
        except (OSError, ValueError):  # nobody reads them, or the stream is closed
            self.handleError(logging.makeLogRecord({"msg": "lines of an EventLog"}))


class EventLog:
    """A log of events with fields, e.g. the audit log, that is written whatever LOG_LEVEL is.

    As JSON, a line takes 1 us, and those of one turn of the event loop are written together. By
    ``logging`` it takes 21 us, a third of the time that the service has for a DELETE.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = logging.getLogger(name)
        self._logger.setLevel(logging.INFO)

    def write(self, event: str, fields: dict[str, Any]) -> None:
        """Write a line, with the id of the request and without the fields that are None."""
        if None in fields.values():
            fields = {name: value for name, value in fields.items() if value is not None}
        handlers = logging.root.handlers
        if len(handlers) != 1 or not isinstance(handlers[0], _JsonHandler):
            self._logger.info(event, extra=fields)
            return
        line = {
            "event": event,
            "level": "info",
            "logger": self._name,
            **fields,
            "timestamp": datetime.now(UTC),
            "pid": _PID,
        }
        if request_id := REQUEST_ID.get(None):
            line["request_id"] = request_id
        if trace_id := TRACE_ID.get(None):
            line["trace_id"] = trace_id
        handlers[0].add(_encode(line) + b"\n")

    def flush(self) -> None:
        """Write the lines of this turn now."""
        for handler in logging.getLogger().handlers:
            handler.flush()


class _Throttle(ABC):
    """Something to be written at most once a second, with the number of times it was due."""

    def __init__(self) -> None:
        self._count = 0
        self._next = 0.0  # the monotonic time before which nothing is written

    def add(self) -> None:
        """Write at once, or count and write at the end of the second."""
        self._count += 1
        wait = self._next - time.monotonic()
        if wait <= 0:
            self.write()
        elif self._count == 1:
            _counting.add(self)
            with suppress(RuntimeError):  # without an event loop, ``write_counts`` writes it
                # In an empty context: the line is about several requests, so it has the id of none.
                asyncio.get_running_loop().call_later(wait, self.write, context=Context())

    def write(self) -> None:
        """Write the present count now, unless that is 0."""
        _counting.discard(self)
        count, self._count = self._count, 0
        if count:
            self._next = time.monotonic() + _THROTTLE_SECONDS
            self._write(count)

    @abstractmethod
    def _write(self, count: int) -> None:
        """Write the line."""


_counting: set[_Throttle] = set()  # those that wait for the end of their second


def write_counts() -> None:
    """Write the lines that wait for the end of their second; the process ends before it."""
    for each in tuple(_counting):
        each.write()


class Throttled(_Throttle):
    """A log line that is written at most once a second, with the number of times it was due.

    ``Throttled(log, "store unavailable").log(reason="no reply in 2 s")`` writes at once the first
    time. Further calls within the second are counted, and one line at its end has their ``count``.
    """

    def __init__(self, logger: logging.Logger, message: str, level: int = logging.WARNING) -> None:
        super().__init__()
        self._logger = logger
        self._message = message
        self._level = level
        self._extra: dict[str, Any] = {}

    def log(self, **extra: Any) -> None:
        """Write or count a line; a line that counts several has the ``extra`` of the last one."""
        self._extra = extra
        self.add()

    def _write(self, count: int) -> None:
        self._logger.log(self._level, self._message, extra={"count": count, **self._extra})


class _Defect(_Throttle):
    """A record with a traceback, for a handler that writes it."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def log(self, record: logging.LogRecord) -> None:
        """Write or count the record; a line that counts several is about the last one."""
        self._record = record
        self.add()

    def _write(self, count: int) -> None:
        self._record.__dict__["count"] = count
        self._handler.handle(self._record)
        del self._record  # its traceback refers to the request


class _Defects(logging.Filter):
    """Writes lines with a traceback once a second for each place and text, with a count.

    A defect that every request meets would write megabytes a second otherwise. Errors are of one
    place if the same line of code raised the same type.
    """

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._defects: dict[object, _Defect] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record now: if it has no traceback, or has its count."""
        if not record.exc_info or "count" in record.__dict__:
            return True
        kind, _, trace = record.exc_info
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (trace.tb_frame.f_code, trace.tb_lineno) if trace is not None else None
        key = record.getMessage(), kind, place
        if len(self._defects) >= _PLACES:
            self._defects.clear()
        self._defects.setdefault(key, _Defect(self._handler)).log(record)
        return False
