"""A session, as it was at one moment of the store's clock."""

import msgspec

from session_service.domain.budgets import MESSAGES_PER_SESSION, REPLY_BYTES, SESSIONS_PER_USER
from session_service.domain.timeouts import TimeoutConfig


class NewSession(msgspec.Struct, frozen=True):
    """What a caller asks for. Ids are lower-case UUIDs, metadata compact JSON."""

    agent_id: str
    user_id: str
    timeout: TimeoutConfig
    metadata: bytes


class SessionLimits(msgspec.Struct, frozen=True):
    """How much may be stored. For the two counts, 0 means no limit."""

    per_user: int = SESSIONS_PER_USER  # live sessions
    messages: int = MESSAGES_PER_SESSION
    reply_bytes: int = REPLY_BYTES  # of an agent's message


class Session(msgspec.Struct, frozen=True):
    """A live session. Times are epoch milliseconds by the store's clock."""

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
        """The deadline: the first moment at which the session is no longer alive."""
        return self.timeout.expires_at(self.created_at, self.last_renewal)

    @property
    def time_remaining(self) -> int:
        """Milliseconds from the reading to the deadline."""
        return max(0, self.expires_at - self.observed_at)

    @property
    def is_near_expiration(self) -> bool:
        """Whether the warning threshold was reached at the reading."""
        return self.time_remaining <= self.timeout.warning_ms


class SessionPage(msgspec.Struct, frozen=True):
    """One page of a listing, and where the next one starts."""

    sessions: list[Session]
    total: int  # live sessions that match
    counts: "SessionCounts"
    next_cursor: str | None


class SessionCounts(msgspec.Struct, frozen=True):
    """How many sessions there are, over all shards, at about one moment."""

    active: int = 0
    near_expiration: int = 0
    expired: int = 0  # ran out, and still remembered
    matching: int = 0  # of the active ones, those that match the filter asked for
    sweep_lag_ms: int = 0  # age of the oldest deadline not acted on
    unreadable: int = 0  # whose record was met and cannot be read
