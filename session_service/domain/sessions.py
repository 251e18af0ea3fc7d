"""Sessions, their limits and their counts."""

import msgspec

from session_service.domain.budgets import (
    MESSAGES_PER_SESSION,
    METADATA_BYTES,
    REPLY_BYTES,
    SESSIONS_PER_USER,
)
from session_service.domain.errors import SessionNotFound, ValidationFailed
from session_service.domain.ids import shard_of_session
from session_service.domain.timeouts import TimeoutConfig


class NewSession(msgspec.Struct, frozen=True):
    """A session to create. Ids are lower-case UUIDs, e.g. ``3f1c0f52-7a3e-4c55-9d0a-…``."""

    agent_id: str
    user_id: str
    timeout: TimeoutConfig
    metadata: bytes  # compact JSON object, e.g. b'{"source":"web"}'

    def created(self, session_id: str, now: int) -> "Session":
        """Return the session as it was created at a time, in epoch milliseconds."""
        return Session(
            id=session_id,
            agent_id=self.agent_id,
            user_id=self.user_id,
            created_at=now,
            last_activity=now,
            last_renewal=now,
            renewal_count=0,
            timeout=self.timeout,
            metadata=self.metadata,
            observed_at=now,
        )


class SessionLimits(msgspec.Struct, frozen=True):
    """Limits on stored sessions and messages. For the two counts, 0 means no limit."""

    per_user: int = SESSIONS_PER_USER  # live sessions
    messages: int = MESSAGES_PER_SESSION
    reply_bytes: int = REPLY_BYTES  # of an agent's message
    ends_oldest: bool = False  # of a user with per_user sessions, for another; else that is refused


class Session(msgspec.Struct, frozen=True):
    """A live session, at one moment. Times are epoch milliseconds by the store's clock."""

    id: str
    agent_id: str
    user_id: str
    created_at: int
    last_activity: int
    last_renewal: int
    renewal_count: int
    timeout: TimeoutConfig
    metadata: bytes  # compact JSON
    observed_at: int  # the store's clock when this was read

    @property
    def expires_at(self) -> int:
        """The deadline: the first millisecond in which the session is no longer alive."""
        return self.timeout.expires_at(self.created_at, self.last_renewal)

    @property
    def time_remaining(self) -> int:
        """Milliseconds from ``observed_at`` to the deadline."""
        return max(0, self.expires_at - self.observed_at)

    @property
    def is_near_expiration(self) -> bool:
        """Whether the warning threshold was reached at ``observed_at``."""
        return self.time_remaining <= self.timeout.warning_ms


class SessionPage(msgspec.Struct, frozen=True):
    """A page of a listing."""

    sessions: list[Session]
    total: int  # live sessions that match
    counts: "SessionCounts"
    next_cursor: str | None
    is_truncated: bool = False  # whether there are sessions that were not sorted by activity


class SessionCounts(msgspec.Struct, frozen=True):
    """The numbers of sessions in all shards, at most a second ago."""

    active: int = 0
    near_expiration: int = 0
    expired: int = 0  # within their retention
    sweep_lag_ms: int = 0  # age of the oldest deadline that was not processed
    unreadable: int = 0  # known to have an unreadable record


def metadata_too_large(size: int) -> ValidationFailed:
    """Return the error for a change that would make the metadata ``size`` bytes of JSON."""
    return ValidationFailed(
        "metadata",
        f"must have at most {METADATA_BYTES:,} bytes as compact UTF-8 JSON after the change, and"
        f" would have {size:,}",
    )


def normal_id(session_id: str) -> str:
    """Return a session id in lower case; raises SessionNotFound if the text is no such id."""
    session_id = session_id.lower()
    if shard_of_session(session_id) is None:
        raise SessionNotFound
    return session_id
