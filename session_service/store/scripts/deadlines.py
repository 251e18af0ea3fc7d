"""Deadlines: the sweep, and unreadable sessions."""

from typing import NamedTuple

from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class NoteArguments(Arguments):
    """A session with a record that could not be read."""

    session_id: bytes


NOTE = Script(
    LIBRARY,
    "note",
    keys=("session", "unreadable"),
    arguments=NoteArguments,
    parts=("clock", "lifetime", "record", "lookup", "outlive", "unreadable"),
    reply=bool,  # whether that was not known yet
)


class DueArguments(Arguments):
    """Shards, and how many warnings that are due to read in all of them."""

    shards: str  # their digits, e.g. "3f40"
    retention_ms: int
    max_read: int


class ShardSizes(NamedTuple):
    """The numbers of sessions in a shard."""

    is_due: int  # 1 if any deadline is due
    active: int
    near_expiration: int
    expired: int
    unreadable: int
    lag_ms: int  # the age of the oldest deadline that was not acted on


def _sizes(reply: list[int]) -> list[ShardSizes]:
    return list(map(ShardSizes._make, zip(*[iter(reply)] * len(ShardSizes._fields), strict=True)))


DUE = Script(
    LIBRARY,
    "due",
    keys=("session",),
    arguments=DueArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "shards"),
    reply=_sizes,  # of each shard
    writes=False,
)


class SweepArguments(Arguments):
    """How many deadlines of each kind to act on at most."""

    retention_ms: int
    limit: int


class Swept(NamedTuple):
    """The work done in a shard."""

    warned: int
    expired: int
    forgotten: int
    more: int  # 1 if more may be due now
    lost: list[bytes]  # ids of sessions without a record
    unreadable: list[bytes]  # ids of sessions that were set aside
    sizes: list[int]  # of warn, expire, forget and unreadable afterwards
    late: bytes  # how late each of warned and expired was, in ms, e.g. b"120 480"


SWEEP = Script(
    LIBRARY,
    "sweep",
    keys=("session", "messages", "warn", "expire", "forget", "unreadable", "listing", "events"),
    arguments=SweepArguments,
    parts=(
        *(
            "clock",
            "ids",
            "lifetime",
            "record",
            "lookup",
            "outbox",
            "outlive",
            "deadline",
            "unreadable",
        ),
        *("listing", "delete"),
    ),
    reply=Swept._make,
)
