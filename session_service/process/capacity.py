"""``session-service capacity``: estimates memory, masters and cores for a number of sessions."""

import re
import sys

from session_service.domain.capacity import MAX_MASTERS, REDIS_FACTOR, Capacity, Mix, estimate
from session_service.output import print_json, print_table
from session_service.settings import Settings

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}


class _OptionError(Exception):
    """An option is not valid; the message, one line, is for the operator."""


def run(
    settings: Settings,
    *,
    sessions: str,
    heartbeat: str,
    messages: str,
    metadata: int,
    lifetime: str,
    ended: int,
    master_memory: str,
    nodes: int,
    as_json: bool,
) -> int:
    """Print the estimate for the options and the settings; return 2 if an option is not valid."""
    try:
        count, size = _messages(messages)
        mix = Mix(
            sessions=_count(sessions),
            heartbeat=_seconds("--heartbeat", heartbeat),
            messages=count,
            message_bytes=size,
            metadata_bytes=metadata,
            lifetime=_lifetime(lifetime),
            ended_share=ended / 100,
            idle_timeout=60 * settings.timeouts.default_timeout,
            expired_retention=60 * settings.retention_minutes,
            history_retention=60 * settings.history_minutes,
            max_events=settings.events.max_length,
            event_retention=settings.events.retention_ms / 1000,
            master_bytes=_bytes(master_memory),
            nodes=nodes,
        )
    except _OptionError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = estimate(mix)
    if as_json:
        print_json({"mix": mix, "estimate": found, "memoryBytes": found.memory.total})
    else:
        _print(mix, found)
    return 0


def _print(mix: Mix, found: Capacity) -> None:
    memory, rates = found.memory, found.rates
    on_redis = _size(round(REDIS_FACTOR * memory.total))
    rows = [
        ("live sessions", f"{mix.sessions:,}", _size(memory.sessions)),
        ("their messages", f"{mix.messages} × {mix.message_bytes} bytes", _size(memory.messages)),
        ("expired sessions, remembered", "", _size(memory.expired)),
        ("conversations, kept", "", _size(memory.history)),
        ("events in the outbox", "", _size(memory.events)),
        ("memory in all", "", _size(memory.total)),
        ("heartbeats", f"{rates.heartbeats:,.0f} a second", ""),
        ("messages", f"{rates.messages:,.0f} a second", ""),
        ("creations and ends", f"{rates.creations:,.0f} a second each", ""),
        ("cores of the service", f"{found.cores:,}", f"{found.service_cores:,.1f} busy"),
        ("masters of the store", f"{found.masters:,}", _reason(found)),
    ]
    print_table(("OF", "NUMBER", "MEMORY OR LOAD"), rows)
    sys.stdout.write(
        f"\nEach master has a machine with {_size(mix.master_bytes)}, half of it free for rewrites"
        " and copies.\nEstimates for Valkey 9, from the figures in docs/performance.md; Redis 7"
        f" takes {on_redis}.\n"
    )
    if found.masters > MAX_MASTERS:
        sys.stdout.write(
            f"A store has at most {MAX_MASTERS} masters, one for each shard: split the users over"
            " several services.\n"
        )


def _reason(found: Capacity) -> str:
    kind = "one server or a Sentinel group" if found.masters == 1 else "a cluster"
    return (
        f"{kind}; {found.masters_for_memory:,} for the memory, {found.masters_for_time:,} for"
        f" {found.store_cores:,.1f} busy cores"
    )


def _size(count: int) -> str:
    """Return bytes for a person, e.g. ``63.3 GB``."""
    value, units = float(count), ["B", "KB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:,.1f} {units[0]}"


def _count(text: str) -> int:
    try:
        count = float(text.replace(",", ""))
    except ValueError:
        count = 0
    if not 1 <= count <= 1e12:
        raise _OptionError(f"--sessions must be a number such as 50000 or 100e6, not {text!r}")
    return round(count)


def _seconds(option: str, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None and text != "0":
        raise _OptionError(f"{option} must be a time such as 30s, 5m, 12h or 2d, not {text!r}")
    return float(match[1]) * _SECONDS[match[2]] if match else 0.0


def _lifetime(text: str) -> float:
    seconds = _seconds("--lifetime", text)
    if not seconds:
        raise _OptionError(f"--lifetime must be longer than 0, not {text!r}")
    return seconds


def _messages(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if match is None:
        raise _OptionError(
            f"--messages must be a number and their bytes such as 20x300, not {text!r}"
        )
    return int(match[1]), int(match[2])


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d*)(kb|mb|gb|tb|)", text.lower())
    if match is None:
        raise _OptionError(f"--master-memory must be a size such as 512mb or 64gb, not {text!r}")
    return int(match[1]) * _BYTES[match[2]]
