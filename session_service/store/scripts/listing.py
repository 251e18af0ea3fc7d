"""Listings and counts, over the sessions of whole shards."""

from typing import Any, NamedTuple

from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class CountArguments(Arguments):
    """How the members of the listing start that match, or ``""`` if all do."""

    retention_ms: int
    start: str


class ShardCounts(NamedTuple):
    """The counts of a shard."""

    active: int
    near_expiration: int
    expired: int
    matching: int
    lag_ms: int  # the age of the oldest deadline that was not acted on
    unreadable: int


def _counts(reply: list[int]) -> list[ShardCounts]:
    size = len(ShardCounts._fields)
    return [ShardCounts._make(reply[n : n + size]) for n in range(0, len(reply), size)]


COUNT = Script(
    LIBRARY,
    "count",
    keys=("session", "warn", "expire", "forget", "listing", "unreadable"),
    arguments=CountArguments,
    parts=("clock", "record", "lookup", "listing"),
    reply=_counts,  # of each shard
    writes=False,
    many_shards=True,
)


class ListArguments(Arguments):
    """A part of a shard's listing."""

    start: str  # of the members
    after: str  # the member after which to start, or ""
    limit: int
    max_bytes: int  # of records


class Listed(NamedTuple):
    """Live sessions and unreadable ones."""

    now: int
    unreadable: list[bytes]  # ids
    records: list[tuple[bytes, bytes]]  # id and record


def _listed(reply: list[Any]) -> Listed:
    now, unreadable, *pairs = reply
    return Listed(now, unreadable, list(zip(pairs[::2], pairs[1::2], strict=True)))


LIST = Script(
    LIBRARY,
    "list",
    keys=("session", "listing"),
    arguments=ListArguments,
    parts=("clock", "record", "lookup"),
    reply=_listed,
    writes=False,
)
