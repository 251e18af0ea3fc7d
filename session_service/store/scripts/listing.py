"""Totals and pages of listings, over the sessions of whole shards."""

from typing import Any, NamedTuple

from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class TotalArguments(Arguments):
    """Shards, and how many sessions to read in all of them."""

    shards: str  # their digits, e.g. "3f40"
    max_read: int


TOTAL = Script(
    LIBRARY,
    "total",
    keys=("session",),
    arguments=TotalArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "shards"),
    reply=list[int],  # of each shard; -1 if it has to be counted in parts
    writes=False,
)


class MatchingArguments(Arguments):
    """The same, and how the members of the listing start that match: all equally long."""

    shards: str
    max_read: int
    starts: tuple[bytes, ...]


MATCHING = Script(
    LIBRARY,
    "matching",
    keys=("session",),
    arguments=MatchingArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "shards", "listing"),
    reply=list[int],  # of each shard a number for each start; -1 if it has to be counted in parts
    writes=False,
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
    parts=("clock", "ids", "lifetime", "record", "lookup"),
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
    parts=("clock", "ids", "lifetime", "record", "lookup"),
    reply=lambda reply: TotalPart(*reply),
    writes=False,
)


class ListArguments(Arguments):
    """A part of the listings of some shards."""

    shards: str  # their digits
    start: bytes  # of the members
    after: bytes  # the member of the first shard after which to start, or b""
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
    keys=("session",),
    arguments=ListArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "shards", "listed"),
    reply=_listed,
    writes=False,
)


class ListTheseArguments(Arguments):
    """Sessions of a shard."""

    max_bytes: int  # of records
    session_ids: tuple[bytes, ...]


LIST_THESE = Script(
    LIBRARY,
    "list_these",
    keys=("session",),
    arguments=ListTheseArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "listed"),
    reply=_listed,
    writes=False,
)


class ActivityArguments(Arguments):
    """A part of a shard's listing."""

    start: bytes  # of the members
    after: bytes  # the member after which to start, or b""
    limit: int
    max_bytes: int  # of records


class Activities(NamedTuple):
    """When the live sessions of a part of a shard's listing were active last."""

    after: bytes  # the member after which to continue, or b"" at the end
    unreadable: list[bytes]  # ids
    sessions: list[tuple[bytes, int]]  # member, last activity (epoch ms)


def _activities(reply: list[Any]) -> Activities:
    after, unreadable, *pairs = reply
    return Activities(after, unreadable, list(zip(pairs[::2], pairs[1::2], strict=True)))


ACTIVITY = Script(
    LIBRARY,
    "activity",
    keys=("session", "listing"),
    arguments=ActivityArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup"),
    reply=_activities,
    writes=False,
)
