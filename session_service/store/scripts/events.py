"""The outbox: reading it, bounding it, and consumer groups."""

from typing import Any, NamedTuple

from session_service.store.client.protocol import RawReply
from session_service.store.client.script import Arguments, Digits, Script
from session_service.store.scripts.library import LIBRARY


class ReadArguments(Arguments):
    """The number of events to read from the shards of a call, and the ids at which to start."""

    shard_events: int  # of each shard, also if the others have many
    max_events: int  # of all shards, about
    starts: tuple[bytes, ...]  # of each shard, e.g. b"=1764000000000-0"; lua/events/read.lua


class ShardNews(NamedTuple):
    """New events of a shard."""

    number: int  # of the shard, among those of the call
    flags: bytes  # b"more" and b"missing"
    last: bytes  # the id of the last entry before the events, or b""
    entries: list[tuple[bytes, list[bytes]]]  # id, and names and values of fields


class ReadReply(NamedTuple):
    """The state of the shards of a call."""

    clock: int  # epoch ms
    pasts: list[bytes]  # of each shard; b"-" if it was not read
    news: list[ShardNews]


def _read_reply(reply: list[Any]) -> ReadReply:
    clock, pasts, *news = reply
    shards = zip(news[::4], news[1::4], news[2::4], news[3::4], strict=True)
    return ReadReply(clock, pasts.split(b","), list(map(ShardNews._make, shards)))


READ = Script(
    LIBRARY,
    "events/read",
    keys=("events", "trimmed"),
    arguments=ReadArguments,
    parts=("clock",),
    reply=_read_reply,
    writes=False,
    many_shards=True,
)


class TrimArguments(Arguments):
    """The bounds of each shard's outbox."""

    max_events: Digits  # about
    retention_ms: int  # about
    past_ms: Digits  # for which a past is kept
    limit: Digits  # events to trim at most, about
    mark_ms: int  # after which the mark of a past is renewed
    seen_ms: int  # after which no node gives out a position that is older than the mark


class TrimmedShard(NamedTuple):
    """The outbox of a shard after it was trimmed."""

    left: int  # events
    trimmed: int  # events
    past: bytes  # as it was before, or b"" if there was none


class TrimReply(NamedTuple):
    """The outboxes of the shards of a call."""

    clock: int  # epoch ms
    shards: list[TrimmedShard]


def _trim_reply(reply: list[Any]) -> TrimReply:
    clock, *shards = reply
    each = zip(shards[::3], shards[1::3], shards[2::3], strict=True)
    return TrimReply(clock, list(map(TrimmedShard._make, each)))


TRIM = Script(
    LIBRARY,
    "events/trim",
    keys=("events", "trimmed"),
    arguments=TrimArguments,
    parts=("clock", "events/past"),
    reply=_trim_reply,
    many_shards=True,
)


class MarkArguments(Arguments):
    """Positions that are doubtful, in epoch ms; none if ``doubt_until`` is 0."""

    doubt_after: int
    doubt_until: int
    past_ms: Digits  # for which a past is kept


def _nothing(_: RawReply) -> None:
    """Read a reply without content."""


MARK = Script(
    LIBRARY,
    "events/mark",
    keys=("trimmed",),
    arguments=MarkArguments,
    parts=("clock", "events/past"),
    reply=_nothing,
    many_shards=True,
)


class NextArguments(Arguments):
    """A consumer group, and how many events of each shard it gets."""

    group: str
    patience_ms: int  # after which a node that has not acknowledged its events counts as gone
    max_events: Digits  # of a shard
    since: int  # the first millisecond that a new group reads (epoch ms)


class GivenEntries(NamedTuple):
    """The next entries of a shard for a consumer group."""

    number: int  # of the shard, among those of the call
    entries: list[tuple[bytes, list[bytes] | None]]  # id and fields; None if it was trimmed


def _given_entries(reply: list[Any]) -> list[GivenEntries]:
    return list(map(GivenEntries, reply[::2], reply[1::2]))


# Consumers tolerate an event twice, so what is lost need not be acknowledged by replicas.
NEXT = Script(
    LIBRARY,
    "events/next",
    keys=("events",),
    arguments=NextArguments,
    reply=_given_entries,  # of each shard that has some
    writes=False,
    many_shards=True,
)


class AcknowledgeArguments(Arguments):
    """Entries of a shard that a consumer group has handled."""

    group: str
    ids: tuple[bytes, ...]


ACKNOWLEDGE = Script(
    LIBRARY,
    "events/acknowledge",
    keys=("events",),
    arguments=AcknowledgeArguments,
    reply=int,  # how many were not acknowledged before
    writes=False,
)
