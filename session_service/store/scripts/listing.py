"""Totals and pages of listings, over the sessions of whole shards."""

from typing import Any, NamedTuple

from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class TotalArguments(Arguments):
    """How many sessions to read, in all shards of the call."""

    max_read: int


TOTAL = Script(
    LIBRARY,
    "total",
    keys=("warn", "expire"),
    arguments=TotalArguments,
    parts=("clock", "ids", "record", "lookup", "beside"),
    reply=list[int],  # of each shard; -1 if it has to be counted in parts
    writes=False,
    many_shards=True,
)


class MatchingArguments(Arguments):
    """The same, and how the members of the listing start that match."""

    start: bytes
    max_read: int


MATCHING = Script(
    LIBRARY,
    "matching",
    keys=("warn", "expire", "listing"),
    arguments=MatchingArguments,
    parts=("clock", "ids", "record", "lookup", "beside", "listing"),
    reply=list[int],
    writes=False,
    many_shards=True,
)


class TotalPartArguments(Arguments):
    """A part of the warnings that are due."""

    before: bytes  # the score before which to start, e.g. b"1768473045123", or b""
    limit: int


class TotalPart(NamedTuple):
    """A summand of the total, and where the next part starts."""

    number: int
    position: bytes  # b"" after the last part
    is_torn: int = 0  # 1 if the sweep took some of the sessions, and the count has to begin again


TOTAL_PART = Script(
    LIBRARY,
    "total_part",
    keys=("session", "warn", "expire"),
    arguments=TotalPartArguments,
    parts=("clock", "ids", "record", "lookup"),
    reply=TotalPart._make,
    writes=False,
)


class MatchingPartArguments(Arguments):
    """A part of the members of the listing that match."""

    start: bytes
    after: bytes  # the member after which to start, or b""
    limit: int


MATCHING_PART = Script(
    LIBRARY,
    "matching_part",
    keys=("session", "listing"),
    arguments=MatchingPartArguments,
    parts=("clock", "ids", "record", "lookup"),
    reply=lambda reply: TotalPart(*reply),
    writes=False,
)


class ListByActivityArguments(Arguments):
    """A part of a shard's listing, and where a page of it starts."""

    start: bytes  # of the members
    newest: int  # sessions to sort
    active: int | None  # last activity, epoch ms, of the session after which to start
    session_id: bytes | None  # of the same session
    limit: int
    max_bytes: int  # of records


class ListedByActivity(NamedTuple):
    """Live sessions by last activity, and unreadable ones."""

    now: int
    unreadable: list[bytes]  # ids
    is_truncated: bool
    records: list[tuple[bytes, bytes]]  # id and record


def _listed_by_activity(reply: list[Any]) -> ListedByActivity:
    now, unreadable, more, *pairs = reply
    records = list(zip(pairs[::2], pairs[1::2], strict=True))
    return ListedByActivity(now, unreadable, bool(more), records)


LIST_BY_ACTIVITY = Script(
    LIBRARY,
    "list_by_activity",
    keys=("session", "listing"),
    arguments=ListByActivityArguments,
    parts=("clock", "ids", "record", "lookup"),
    reply=_listed_by_activity,
    writes=False,
)


class ListArguments(Arguments):
    """A part of a shard's listing."""

    start: bytes  # of the members
    after: bytes  # the member after which to start, or b""
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
    parts=("clock", "ids", "record", "lookup"),
    reply=_listed,
    writes=False,
)
