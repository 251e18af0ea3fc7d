"""How a session, a message and an event are written down in Redis: format 1.

A session is one string, so that scripts can read and rewrite it (lua/session.lua): the format,
numbers, ids and metadata, separated by spaces, with a newline at the end:

    1 created lastActivity lastRenewal renewals timeout maxDuration warning autoRenew
    agent user metadata

Times are epoch milliseconds, durations milliseconds, autoRenew is 0 or 1, metadata is compact JSON,
which never contains a newline: a record that was cut short is recognised by its last byte. When a
session has expired, the sweep leaves ``1 expired <its deadline>`` and a newline. Anything else is
damaged or of a newer format; it is answered with RecordUnreadable and left as it is.
One string costs about a third of a hash: 64 bytes a field end the compact encoding.

An event is one string, too: its type, session, agent and user, then what changed, as the scripts
that announce it have it.
"""

import re

from session_service.domain.errors import (
    RecordUnreadable,
    ServiceError,
    SessionExpired,
    SessionNotFound,
)
from session_service.domain.event_types import EVENT_DETAILS, Announcement
from session_service.domain.events import Event, EventId
from session_service.domain.ids import is_uuid
from session_service.domain.messages import Message, NewMessage
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.domain.times import LATEST

FORMAT = 1  # of records; the scripts write it, too

# Places in the tail of a record, counted from 1 as Lua does: agent, space, user, space, metadata.
ID_LENGTH = 36
USER_START = ID_LENGTH + 2
USER_END = USER_START + ID_LENGTH - 1

_is_tombstone = re.compile(rb"1 expired (\d{1,15})\n").fullmatch
_is_expired = re.compile(rb"expired (\d{1,15})").fullmatch


def pack_tail(new: NewSession) -> bytes:
    """Write the part of a session's record that never changes."""
    return f"{new.agent_id} {new.user_id} ".encode() + new.metadata + b"\n"


def unpack_session(session_id: str, record: bytes, observed_at: int | None = None) -> Session:
    """Read a session's record; without ``observed_at`` it was observed at its last activity.

    Raises SessionExpired for what the sweep leaves, and RecordUnreadable.
    """
    try:
        version, *numbers, auto, agent, user, metadata = record.decode().split(" ", 11)
        created, active, renewed, renewals, timeout, duration, warning = map(int, numbers)
    except ValueError:
        found = _is_tombstone(record)
        raise SessionExpired(int(found[1])) if found else RecordUnreadable() from None
    is_whole = metadata[:1] == "{" and metadata[-1:] == "\n"
    if version != "1" or not is_whole or created + duration > LATEST or active > LATEST:
        raise RecordUnreadable
    return Session(
        id=session_id,
        agent_id=agent,
        user_id=user,
        created_at=created,
        last_activity=active,
        last_renewal=renewed,
        renewal_count=renewals,
        timeout=TimeoutConfig(timeout, auto == "1", duration, warning),
        metadata=metadata[:-1].encode(),
        observed_at=active if observed_at is None else observed_at,
    )


def refusal(reply: bytes | None) -> ServiceError:
    """Return the error for what a script replies in place of a session (lua/session.lua, load)."""
    if reply is None:
        return SessionNotFound()
    found = _is_expired(reply)
    return SessionExpired(int(found[1])) if found else RecordUnreadable()


def pack_message(new: NewMessage) -> tuple[bytes, bytes, bytes]:
    """Write the content, the metadata and the attachments of a message."""
    return new.content.encode(), new.metadata, new.attachments or b""


def unpack_message(entry_id: bytes, fields: list[bytes], agent_id: str, user_id: str) -> Message:
    """Read a stream entry: its id, and names and values as lua/send.lua writes them.

    E.g. ``b"1768473045123-0"`` and ``[b"id", b"9b2f…", b"by", b"user", b"content", b"Hello",
    b"metadata", b"{}", b"attachments", b""]``. Raises RecordUnreadable.
    """
    try:
        message_id, by, content, metadata, attachments = fields[1::2]
        is_agent = by == b"agent"
        return Message(
            id=message_id.decode(),
            content=content.decode(),
            author_id=agent_id if is_agent else user_id,
            is_agent=is_agent,
            created_at=int(entry_id.partition(b"-")[0]),
            metadata=metadata,
            attachments=attachments or None,
        )
    except ValueError:
        raise RecordUnreadable from None


def unpack_event(position: EventId, event: bytes) -> Event:
    """Read an event of the outbox; raises RecordUnreadable."""
    try:
        kind, session_id, agent, user, *detail = event.decode().split(" ", 4)
        if kind not in EVENT_DETAILS or not is_uuid(session_id) or position.ms > LATEST:
            raise RecordUnreadable("no event of this version")
        details = (
            EVENT_DETAILS[kind].decode(Announcement(position.ms, user, agent, detail[0]))
            if detail
            else None
        )
    except ValueError as error:
        raise RecordUnreadable from error
    return Event(position, kind, session_id, user, agent, details)
