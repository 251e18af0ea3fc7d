"""How a session and a message are written down in Redis.

A session is one string, numbers first, so that scripts can read and rewrite it
(lua/session.lua), parted by spaces:

    created lastActivity lastRenewal renewals timeout maxDuration warning autoRenew
    agent user channel metadata

Times are epoch milliseconds, durations milliseconds, autoRenew is 0 or 1, metadata compact JSON.
One string costs about a third of a hash: 64 bytes a field end the compact encoding.
"""

from session_service.domain.messages import Message
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig

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


def unpack_message(entry_id: bytes, fields: list[bytes], session: Session) -> Message:
    """Read a stream entry: its id, and names and values in the order of lua/send.lua."""
    message_id, by, content, metadata, attachments = fields[1::2]
    is_agent = by == b"agent"
    return Message(
        id=message_id.decode(),
        content=content.decode(),
        author_id=session.agent_id if is_agent else session.user_id,
        is_agent=is_agent,
        created_at=int(entry_id.partition(b"-")[0]),
        metadata=metadata,
        attachments=attachments or None,
    )
