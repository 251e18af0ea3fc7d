"""How a session, a message and an event are written down in Redis.

A session is one string, numbers first, so that scripts can read and rewrite it
(lua/session.lua), parted by spaces:

    created lastActivity lastRenewal renewals timeout maxDuration warning autoRenew
    agent user channel metadata

Times are epoch milliseconds, durations milliseconds, autoRenew is 0 or 1, metadata compact JSON.
One string costs about a third of a hash: 64 bytes a field end the compact encoding.

An event is one string, too: its type, session, agent and user, then what changed, as the scripts
that announce it have it.
"""

from collections.abc import Iterator
from typing import Any

from session_service.domain.events import Event, EventId
from session_service.domain.messages import Message
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import MS_PER_MINUTE, TimeoutConfig, to_minutes
from session_service.domain.times import iso

EXPIRED = b"expired"  # what the sweep leaves of a record


def pack_tail(new: NewSession, channel_id: str) -> bytes:
    """Write the part of a session's record that never changes."""
    return f"{new.agent_id} {new.user_id} {channel_id} ".encode() + new.metadata


def unpack_session(session_id: str, record: bytes, observed_at: int | None = None) -> Session:
    """Read a session's record; it was observed at its last activity where nothing else is told."""
    parts = record.decode().split(" ", 11)
    created, active, renewed, renewals, timeout, duration, warning = map(int, parts[:7])
    auto, agent, user, channel, metadata = parts[7:]
    return Session(
        id=session_id,
        channel_id=channel,
        agent_id=agent,
        user_id=user,
        created_at=created,
        last_activity=active,
        last_renewal=renewed,
        renewal_count=renewals,
        timeout=TimeoutConfig(timeout, auto == "1", duration, warning),
        metadata=metadata.encode(),
        observed_at=active if observed_at is None else observed_at,
    )


def unpack_message(entry_id: bytes, fields: list[bytes], agent_id: str, user_id: str) -> Message:
    """Read a stream entry: its id, and names and values in the order of lua/send.lua."""
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


def unpack_event(position: EventId, event: bytes) -> Event:
    """Read an event of the outbox."""
    kind, session_id, agent, user, *detail = event.decode().split(" ", 4)
    return Event(
        position=position,
        type=kind,
        session_id=session_id,
        user_id=user,
        agent_id=agent,
        data=dict(_data(kind, position.ms, agent, user, detail[0])) if detail else {},
    )


def _data(kind: str, at: int, agent: str, user: str, detail: str) -> Iterator[tuple[str, Any]]:
    """Yield what an event says had changed."""
    if kind == "message":
        message_id, by, created, *content = detail.split(" ", 3)
        yield "messageId", message_id
        yield "authorId", agent if by == "agent" else user
        yield "isAgent", by == "agent"
        yield "createdAt", iso(int(created))
        if content:
            yield "content", content[0]
        return
    if kind == "ended":
        yield "reason", detail
        return
    expires, *more = map(int, detail.split(" "))
    yield "expiredAt" if kind == "expired" else "expiresAt", iso(expires)
    if kind == "expiring":
        yield "minutesRemaining", -((at - expires) // MS_PER_MINUTE)
    elif kind == "renewed" and more:
        yield "renewalCount", more[0]
    elif kind == "updated" and more:
        timeout, duration, warning, auto = more
        yield (
            "timeoutConfig",
            {
                "timeoutMinutes": to_minutes(timeout),
                "autoRenew": bool(auto),
                "maxDurationMinutes": to_minutes(duration),
                "warningThresholdMinutes": to_minutes(warning),
            },
        )
