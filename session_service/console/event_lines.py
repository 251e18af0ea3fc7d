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
from session_service.output import print_json_line, printable

Data = Mapping[str, Any]


def print_event(item: CloudEvent | Reset, *, as_json: bool) -> None:
    """Print an event as a line, at once: for people, or as JSON."""
    if not as_json:
        print_line(line_of(item))
    elif isinstance(item, Reset):
        print_json_line({"type": item.type, "id": item.id})
    else:
        print_json_line(item)


def print_line(line: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def line_of(item: CloudEvent | Reset) -> str:
    """Return an event as a line: its time in UTC, its type, its session, and the telling detail.

    On a terminal, ids and times are shortened, and the line is cut to the width. Elsewhere it has
    everything, e.g. the whole content of a message.
    """
    if isinstance(item, Reset):
        return line(now(), "reset", "some events are missing here: read the sessions again")
    return line(item.time, type_of(item), f"{item.subject}  {detail_of(item)}")


def line(at: str, kind: str, told: str) -> str:
    """Return a line of columns: a time in UTC, a word of up to 8 letters, and the rest."""
    text = printable(f"{_clock(at)}  {kind:<8}  {told}".rstrip())
    return _cut(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text


def now() -> str:
    """Return the time in UTC, as events have it."""
    return iso(int(time.time() * 1000))


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


def _cut(text: str, width: int) -> str:
    """Return a text of at most ``width`` columns; wide characters, e.g. of Chinese, take two."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
