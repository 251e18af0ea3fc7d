"""Events as lines for people, e.g. ``12:00:00  expiring  3f1c9a2e-…  5 minutes left``."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from rich.cells import cell_len, set_cell_size

from session_service.api.events import CloudEvent
from session_service.client import Reset
from session_service.console.formats import short_id
from session_service.domain.times import iso
from session_service.output import printable

Data = Mapping[str, Any]


def line_of(item: CloudEvent | Reset) -> str:
    """Return an event as a line: its time in UTC, its type, its session, and the telling detail.

    On a terminal, ids and times are shortened, and the line is cut to the width. Elsewhere it has
    everything, e.g. the whole content of a message.
    """
    if isinstance(item, Reset):
        at, kind = iso(int(time.time() * 1000)), "reset"
        told = "some events are missing here: read the sessions again"
    else:
        at, kind, told = item.time, type_of(item), f"{item.subject}  {detail_of(item)}"
    is_terminal = sys.stdout.isatty()
    line = printable(f"{_clock(at)}  {kind:<8}  {told}".rstrip())
    return _cut(line, shutil.get_terminal_size().columns) if is_terminal else line


def type_of(event: CloudEvent) -> str:
    """Return the type of an event, e.g. ``expiring``."""
    return event.type.removeprefix("session.")


def detail_of(event: CloudEvent) -> str:
    """Return the detail that tells most, e.g. ``5 minutes left`` of a warning."""
    describe = _DETAILS.get(type_of(event))
    try:
        return describe(event.data) if describe else _unknown(event.data)
    except (KeyError, TypeError):  # a newer service has other data
        return _unknown(event.data)


def _unknown(data: Data) -> str:
    own = {name: data[name] for name in data if name not in ("sessionId", "userId", "agentId")}
    return msgspec.json.encode(own).decode()


def _created(data: Data) -> str:
    return f"user {short_id(data['userId'])}, agent {short_id(data['agentId'])}"


def _message(data: Data) -> str:
    author = "agent" if data["isAgent"] else "user"
    return f"{author}: {data['content']}" if "content" in data else f"by the {author}"


def _renewed(data: Data) -> str:
    return f"to {_clock(data['expiresAt'])}, {data['renewalCount']}x"


def _updated(data: Data) -> str:
    if data["changed"] == "metadata":
        return "metadata"
    return f"timeout; to {_clock(data['expiresAt'])}"


def _expiring(data: Data) -> str:
    minutes = data["minutesRemaining"]
    return f"{minutes} minute left" if minutes == 1 else f"{minutes} minutes left"


def _ended(data: Data) -> str:
    by = f"by {data['by']}" if "by" in data else ""
    return ", ".join(filter(None, (data.get("reason"), by)))


_DETAILS: Mapping[str, Callable[[Data], str]] = {
    "created": _created,
    "message": _message,
    "renewed": _renewed,
    "updated": _updated,
    "expiring": _expiring,
    "expired": lambda _: "",
    "ended": _ended,
}


def _clock(timestamp: str) -> str:
    """Return a time of day on a terminal; elsewhere the timestamp as it is."""
    return timestamp[11:19] if sys.stdout.isatty() else timestamp


def _cut(line: str, width: int) -> str:
    """Return a line of at most ``width`` columns; wide characters, e.g. of Chinese, take two."""
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"
