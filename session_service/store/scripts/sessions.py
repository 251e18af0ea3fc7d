"""Operations on one session, and on all sessions of an owner."""

from typing import NamedTuple

from session_service.store.client.protocol import RawReply
from session_service.store.client.script import Arguments, Digits, NoArguments, Script
from session_service.store.records import ID_LENGTH, USER_END, refusal, unpack_id
from session_service.store.scripts.library import LIBRARY

# The session of a request, by the clock, if it exists for the caller.
_ONE = ("clock", "lifetime", "record", "viewer", "visible", "session")
_RENEWAL = ("save", "outbox", "outlive", "deadline", "renewal")
_RENEWING = (*_ONE, *_RENEWAL)


class SessionArguments(Arguments):
    """A session, how long it is remembered when it has expired, and the limits of the caller."""

    retention_ms: int
    session_id: bytes
    viewer: bytes | None  # as of ``records.pack_viewer``


def record(reply: RawReply) -> bytes:
    """Return a reply that is the record of a session that is alive.

    Raises SessionNotFound, SessionExpired or RecordUnreadable for the other replies of ``load`` in
    lua/session.lua: nil, ``expired 1767225600000``, ``unreadable``.
    """
    if reply is None or reply[-1:] != b"\n":
        raise refusal(reply)
    found: bytes = reply
    return found


def record_and_words(reply: RawReply) -> tuple[bytes, list[bytes]]:
    r"""Split a reply into the record of a session that is alive and the words after it.

    E.g. ``b"2 1768473045123 … {}\n1768473105123 past"``. Raises as ``record`` does.
    """
    end = reply.rfind(b"\n") + 1 if reply else 0
    if not end:
        raise refusal(reply)
    return reply[:end], reply[end:].split()


NO_SESSIONS = -1


class CreateArguments(Arguments):
    """A new session, with ``tail`` as of ``records.pack_tail``."""

    retention_ms: int
    session_id: bytes
    timeout_ms: Digits
    max_duration_ms: Digits
    warning_ms: Digits
    auto_renew: bool
    tail: bytes
    max_sessions: int  # of a user; 0 if there is no limit; NO_SESSIONS if none may be created


def _created(reply: int | bytes) -> int | None:
    return None if isinstance(reply, bytes) else reply


CREATE = Script(
    LIBRARY,
    "create",
    keys=("session", "warn", "listing", "events"),
    arguments=CreateArguments,
    parts=(
        *("clock", "lifetime", "save", "outbox", "outlive", "deadline", "listing"),
        *("room", "creation"),
    ),
    reply=_created,  # createdAt, or None if the user has max_sessions
)


class GetOrCreateArguments(CreateArguments):
    """The same, for a session that is created only if there is none."""

    @property
    def recorded_for(self) -> str:
        """``<agent>:<user>``: the reply may have any of their sessions (ReplayingExecutor)."""
        return f"{unpack_id(self.tail[:ID_LENGTH])}:{unpack_id(self.tail[ID_LENGTH:USER_END])}"


class Found(NamedTuple):
    """A session that exists: its id as text, and its record after the heartbeat."""

    session_id: str
    record: bytes


def _found_or_created(reply: RawReply) -> Found | int | None:
    if not isinstance(reply, bytes) or reply == b"full":
        return _created(reply)
    found, (session_id,) = record_and_words(reply)
    return Found(session_id.decode(), found)


GET_OR_CREATE = Script(
    LIBRARY,
    "get_or_create",
    keys=("session", "warn", "expire", "listing", "events"),
    arguments=GetOrCreateArguments,
    parts=(
        "ids",
        "clock",
        "lifetime",
        "record",
        *_RENEWAL,
        "lookup",
        "listing",
        "room",
        "creation",
    ),
    reply=_found_or_created,  # the session, createdAt, or None if none may be created
)


def _read(reply: bytes) -> tuple[int, bytes | None]:
    now, space, found = reply.partition(b" ")
    return int(now), found if space else None


GET = Script(
    LIBRARY,
    "get",
    keys=("session",),
    arguments=NoArguments,
    parts=("clock",),
    reply=_read,  # the clock (epoch ms), and the record, or None if there is none
    writes=False,
)


class VisibleArguments(Arguments):
    """A session, and the limits of the caller, as of ``records.pack_viewer``."""

    session_id: bytes
    viewer: bytes


GET_VISIBLE = Script(
    LIBRARY,
    "get_visible",
    keys=("session",),
    arguments=VisibleArguments,
    parts=("clock", "lifetime", "record", "viewer", "visible"),
    reply=_read,
    writes=False,
)


def _ended(reply: RawReply) -> int:
    if isinstance(reply, bytes):
        raise refusal(reply)
    removed: int = reply
    return removed


class EndArguments(SessionArguments):
    """A session to end, and who ends it, for the event."""

    by: str | None  # user, server


END = Script(
    LIBRARY,
    "end",
    keys=("session", "messages", "warn", "expire", "listing", "events"),
    arguments=EndArguments,
    parts=(*_ONE, "ids", "outbox", "listing", "delete", "ending"),
    reply=_ended,  # how many keys were removed; 0 if there is no session that is alive
)


class EndAllArguments(Arguments):
    """Which sessions of a shard to end: a part of the listing."""

    start: bytes  # of the members of the listing
    after: bytes  # the member after which to start, or b""
    last_created: int
    limit: int  # members
    by: str | None  # user, server


class EndedAll(NamedTuple):
    """The result of END_ALL, in one shard."""

    now: int
    ended: int
    after: bytes  # the member after which to continue, or b"" at the end


END_ALL = Script(
    LIBRARY,
    "end_all",
    keys=("session", "messages", "warn", "expire", "listing", "events"),
    arguments=EndAllArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "outbox", "listing", "delete", "ending"),
    reply=EndedAll._make,
)


class Renewal(NamedTuple):
    """A session's record after RENEW, unless it was ``exhausted``: then as it was."""

    record: bytes
    is_exhausted: bool


def _renewal(reply: RawReply) -> Renewal:
    found, words = record_and_words(reply)
    return Renewal(found, bool(words))


RENEW = Script(
    LIBRARY,
    "renew",
    keys=("session", "warn", "expire", "events"),
    arguments=SessionArguments,
    parts=_RENEWING,
    reply=_renewal,
)

HEARTBEAT = Script(
    LIBRARY,
    "heartbeat",
    keys=("session", "warn", "expire", "events"),
    arguments=SessionArguments,
    parts=_RENEWING,
    reply=record,
)


class TimeoutArguments(SessionArguments):
    """A change of a session's timeout; None leaves a value as it is."""

    timeout_ms: Digits | None = None
    max_duration_ms: Digits | None = None
    warning_ms: Digits | None = None
    auto_renew: bool | None = None


class TimeoutChanged(NamedTuple):
    """A session's record after TIMEOUT; unchanged if there is a ``problem``."""

    record: bytes
    now: int
    problem: bytes | None  # conflict, past


def _timeout_changed(reply: RawReply) -> TimeoutChanged:
    found, (now, *problem) = record_and_words(reply)
    return TimeoutChanged(found, int(now), problem[0] if problem else None)


TIMEOUT = Script(
    LIBRARY,
    "timeout",
    keys=("session", "messages", "warn", "expire", "listing", "events"),
    arguments=TimeoutArguments,
    parts=(*_ONE, "save", "outbox", "update", "outlive", "deadline"),
    reply=_timeout_changed,
)


class MetadataArguments(SessionArguments):
    """A change of a session's metadata."""

    patch: bytes  # compact JSON; null removes a member


class MetadataChanged(NamedTuple):
    """A session's record after METADATA; unchanged if its metadata would be ``too_large``."""

    record: bytes
    now: int
    too_large: int | None  # bytes


def _metadata_changed(reply: RawReply) -> MetadataChanged:
    found, (now, *size) = record_and_words(reply)
    return MetadataChanged(found, int(now), int(size[0]) if size else None)


METADATA = Script(
    LIBRARY,
    "metadata",
    keys=("session", "events"),
    arguments=MetadataArguments,
    parts=(*_ONE, "save", "outbox", "update"),
    reply=_metadata_changed,
)


class SendArguments(SessionArguments):
    """A new message, as of ``messages.pack_message``."""

    message_id: str
    author_id: bytes | None  # the user if None
    may_be_agent: bool  # whether the caller may speak as the agent
    message: bytes
    max_messages: int  # of a session; 0 if there is no limit
    fits_only: str | None  # user or agent, if the content is too long for the other one
    content_bytes: int | None  # at the end of the message, if its event has the content


class Sent(NamedTuple):
    """A session's record after SEND, and the message's time and author."""

    record: bytes
    created_at: int
    author: bytes  # user, agent
    is_renewed: bool


class NotSent(NamedTuple):
    """A session's record, and why its message was not stored."""

    record: bytes
    problem: bytes  # author, agent, length, full


def _sent(reply: RawReply) -> Sent | NotSent:
    found, words = record_and_words(reply)
    if len(words) == 1:
        return NotSent(found, words[0])
    created_at, author, renewed = words
    return Sent(found, int(created_at), author, renewed == b"1")


SEND = Script(
    LIBRARY,
    "send",
    keys=("session", "messages", "warn", "expire", "events"),
    arguments=SendArguments,
    parts=(*_RENEWING, "message"),
    reply=_sent,
)
