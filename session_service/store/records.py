"""The format of sessions and events in Redis: format 2. messages.py has that of messages.

A session is one string, which scripts can read and rewrite (lua/record.lua): the format, numbers,
ids and metadata, with a newline at the end:

    2 created active renewed renewals timeout maxDuration warning autoRenew <agent><user><metadata>

``created`` is in epoch milliseconds. ``active`` is how long after it the last activity was, and
``renewed`` how long before the last activity the last renewal was, so both are mostly short. These
and the durations are milliseconds, and autoRenew is 0 or 1. An id is its 16 bytes, not its text of
36. For example (one line), where ``…`` are the ids::

    2 1768473045123 60000 0 1 1800000 3600000 300000 1 …{"topic":"billing"}

The metadata is compact JSON, which never contains a newline, so a record that was cut off is
recognised by its last byte. After a session has expired, the sweep replaces the record by
``2 expired <expiresAt> <agent><user>`` and a newline. Any other record is damaged or of a newer
format: it raises RecordUnreadable and is left as it is. One string takes about a third of the
memory of a hash, whose compact encoding ends at 64 bytes a field.

An event is one string as well: its type and a space, the 16 bytes each of session, agent and user,
and if it has details a space and the text that domain/event_types.py describes.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from session_service.domain.credentials import Credential
from session_service.domain.errors import (
    RecordUnreadable,
    ServiceError,
    SessionExpired,
    SessionNotFound,
)
from session_service.domain.event_types import EVENT_DETAILS, Announcement
from session_service.domain.events import Event, EventId
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.domain.times import LATEST_MS

FORMAT = 2  # of records; the scripts write it, too
OLDEST_FORMAT = 2  # that this version reads

# Positions in the tail of a record (agent, user, metadata), from 1 as in Lua.
ID_LENGTH = 16
USER_START = ID_LENGTH + 1
USER_END = 2 * ID_LENGTH
METADATA_START = USER_END + 1

MEMBER_LENGTHS = {b"u": 39, b"a": 55}  # of the listing
_FIRST_AGE = 2**48 - 1  # of a session created in 1970

_SPACE = ord(" ")
_is_tombstone = re.compile(rb"2 expired (\d{1,15}) (?s:.{32})\n").fullmatch
_is_expired = re.compile(rb"expired (\d{1,15})").fullmatch


class ListingMember(NamedTuple):
    """The parts of a member of the listing (keys.py)."""

    agent_id: str | None  # None in the listing by user
    user_id: str
    created_at: int  # epoch ms
    session_id: str


def pack_id(text: str) -> bytes:
    """Return the 16 bytes of an id, e.g. of ``3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836``."""
    return bytes.fromhex(text.replace("-", ""))  # uuid.UUID takes five times as long


def unpack_id(packed: bytes) -> str:
    """Return the text of an id of 16 bytes."""
    # Half the time of five slices of the digits, which is 0.3 us.
    return f"{packed[:4].hex()}-{packed[4:10].hex('-', 2)}-{packed[10:].hex()}"


# There are far fewer agents than sessions.
_agent_id = lru_cache(maxsize=4096)(unpack_id)


def pack_tail(new: NewSession) -> bytes:
    """Return the part of a record after the numbers: agent, user, metadata, newline."""
    return pack_id(new.agent_id) + pack_id(new.user_id) + new.metadata + b"\n"


def unpack_session(session_id: str, record: bytes, observed_at: int | None = None) -> Session:
    """Return the session of a record, as observed at a time; by default, at its last activity.

    Raises SessionExpired for the record of an expired session, and RecordUnreadable.
    """
    parts = record.split(b" ", 9)
    try:
        created, renewals = int(parts[1]), int(parts[4])
        active = created + int(parts[2])
        renewed = active - int(parts[3])
        timeout, duration, warning = int(parts[5]), int(parts[6]), int(parts[7])
        tail = parts[9]
    except (ValueError, IndexError):
        found = _is_tombstone(record)
        raise SessionExpired(int(found[1])) if found else RecordUnreadable() from None
    metadata = tail[USER_END:-1]
    is_whole = metadata[:1] == b"{" and tail[-1:] == b"\n"
    if parts[0] != b"2" or not is_whole or created + duration > LATEST_MS or active > LATEST_MS:
        raise RecordUnreadable
    return Session(
        id=session_id,
        agent_id=_agent_id(tail[:ID_LENGTH]),
        user_id=unpack_id(tail[ID_LENGTH:USER_END]),
        created_at=created,
        last_activity=active,
        last_renewal=renewed,
        renewal_count=renewals,
        timeout=TimeoutConfig(timeout, parts[8] == b"1", duration, warning),
        metadata=metadata,
        observed_at=active if observed_at is None else observed_at,
    )


@lru_cache(maxsize=1024)
def pack_viewer(credential: Credential) -> bytes | None:
    """Return the limits of a credential for scripts (lua/visible.lua); None if it has none.

    For example ``u`` and the 16 bytes of a user.
    """
    if credential.session is not None:
        return b"s" + pack_id(credential.session)
    if credential.user is not None:
        return b"u" + pack_id(credential.user)
    if credential.agents is not None:
        return b"a" + b"".join(map(pack_id, sorted(credential.agents)))
    return None


def listing_member(kind: bytes, session: Session) -> bytes:
    """Return a session's member of the listing, of kind ``u`` or ``a`` (keys.py).

    lua/listing.lua makes the same.
    """
    agent = pack_id(session.agent_id) if kind == b"a" else b""
    age = (_FIRST_AGE - session.created_at).to_bytes(6, "big")
    return kind + agent + pack_id(session.user_id) + age + pack_id(session.id)


def unpack_listing_member(member: bytes) -> ListingMember:
    """Return the parts of a member of the listing; raises RecordUnreadable."""
    kind, ids = member[:1], member[1:]
    if len(member) != MEMBER_LENGTHS.get(kind):
        raise RecordUnreadable
    agent = unpack_id(ids[:ID_LENGTH]) if kind == b"a" else None
    user, age, session = ids[-38:-22], ids[-22:-ID_LENGTH], ids[-ID_LENGTH:]
    created_at = _FIRST_AGE - int.from_bytes(age, "big")
    return ListingMember(agent, unpack_id(user), created_at, unpack_id(session))


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

    E.g. for ``b"ended <ids> bulk"``, in which the ids are 48 bytes.
    """
    start = event.find(b" ") + 1
    end = start + 3 * ID_LENGTH
    try:
        kind = event[: max(0, start - 1)].decode()
        if kind not in EVENT_DETAILS or len(event) < end or position.ms > LATEST_MS:
            raise RecordUnreadable("no event of this version")
        session_id, agent, user = (
            unpack_id(event[n : n + ID_LENGTH]) for n in range(start, end, ID_LENGTH)
        )
        details = None
        if len(event) > end:
            if event[end] != _SPACE:
                raise RecordUnreadable("no event of this version")
            detail = event[end + 1 :].decode()
            details = EVENT_DETAILS[kind].decode(Announcement(position.ms, user, agent, detail))
    except ValueError as error:
        raise RecordUnreadable from error
    return Event(position, kind, session_id, user, agent, details)
