"""The format of sessions and events in Redis: format 1. messages.py has that of messages.

A session is one string, which scripts can read and rewrite (lua/record.lua): the format, numbers,
ids and metadata, separated by spaces, with a newline at the end:

    1 created lastActivity lastRenewal renewals timeout maxDuration warning autoRenew
    agent user metadata

For example (one line)::

    1 1768473045123 1768473105123 1768473045123 0 1800000 3600000 300000 1
    2c6e4f0a-… 8d1b7c32-… {"topic":"billing"}

Times are epoch milliseconds, durations milliseconds, and autoRenew is 0 or 1. The metadata is
compact JSON, which never contains a newline, so a record that was cut off is recognised by its last
byte. After a session has expired, the sweep replaces the record by ``1 expired <expiresAt>`` and a
newline. Any other record is damaged or of a newer format: it raises RecordUnreadable and is left as
it is. One string takes about a third of the memory of a hash, whose compact encoding ends at 64
bytes a field.

An event is one string as well: its type, session, agent and user, and then the details that
domain/event_types.py describes.
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
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.domain.times import LATEST_MS

FORMAT = 1  # of records; the scripts write it, too

# Positions in the tail of a record (agent, space, user, space, metadata), from 1 as in Lua.
ID_LENGTH = 36
USER_START = ID_LENGTH + 2
USER_END = USER_START + ID_LENGTH - 1

_is_tombstone = re.compile(rb"1 expired (\d{1,15})\n").fullmatch
_is_expired = re.compile(rb"expired (\d{1,15})").fullmatch


def pack_id(text: str) -> bytes:
    """Return the 16 bytes of an id, e.g. of ``3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836``."""
    return bytes.fromhex(text.replace("-", ""))  # uuid.UUID takes five times as long


def unpack_id(packed: bytes) -> str:
    """Return the text of an id of 16 bytes."""
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def pack_tail(new: NewSession) -> bytes:
    """Return the part of a record that never changes: ``<agent id> <user id> <metadata>\\n``."""
    return f"{new.agent_id} {new.user_id} ".encode() + new.metadata + b"\n"


def unpack_session(session_id: str, record: bytes, observed_at: int | None = None) -> Session:
    """Return the session of a record, as observed at a time; by default, at its last activity.

    Raises SessionExpired for the record of an expired session, and RecordUnreadable.
    """
    try:
        version, *numbers, auto, agent, user, metadata = record.decode().split(" ", 11)
        created, active, renewed, renewals, timeout, duration, warning = map(int, numbers)
    except ValueError:
        found = _is_tombstone(record)
        raise SessionExpired(int(found[1])) if found else RecordUnreadable() from None
    is_whole = metadata[:1] == "{" and metadata[-1:] == "\n"
    if version != "1" or not is_whole or created + duration > LATEST_MS or active > LATEST_MS:
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
    """Return the error for a reply in place of a session (lua/session.lua, load).

    E.g. SessionNotFound for None, and SessionExpired for ``b"expired 1768473045123"``.
    """
    if reply is None:
        return SessionNotFound()
    found = _is_expired(reply)
    return SessionExpired(int(found[1])) if found else RecordUnreadable()


def unpack_event(position: EventId, event: bytes) -> Event:
    """Return an event of the outbox; raises RecordUnreadable.

    E.g. for ``b"ended <session id> <agent id> <user id> bulk"``.
    """
    try:
        kind, session_id, agent, user, *detail = event.decode().split(" ", 4)
        if kind not in EVENT_DETAILS or not is_uuid(session_id) or position.ms > LATEST_MS:
            raise RecordUnreadable("no event of this version")
        details = (
            EVENT_DETAILS[kind].decode(Announcement(position.ms, user, agent, detail[0]))
            if detail
            else None
        )
    except ValueError as error:
        raise RecordUnreadable from error
    return Event(position, kind, session_id, user, agent, details)
