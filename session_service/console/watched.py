"""The sessions of ``sessions watch``: as many as fit on the screen, kept current by events."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from session_service.api.events import CloudEvent
from session_service.api.sessions import SessionInfo, SessionList
from session_service.console.event_lines import type_of
from session_service.console.formats import epoch_seconds
from session_service.domain.event_types import LAST_TYPES

KEPT_SECONDS = 5.0  # for which a session that is over stays visible
READ_SECONDS = 10.0  # after which a session is read again: most heartbeats are not events


@dataclass(slots=True)
class Row:
    """A session. Times are in seconds since 1970, by the clock of the service."""

    session_id: str
    user_id: str
    agent_id: str
    created_at: float
    expires_at: float
    warning: float | None = None  # seconds before the expiry; None before the session was read
    state: str = "active"
    event: str = ""  # the last one, e.g. "message"
    event_at: float = 0.0
    read_at: float = 0.0  # by time.monotonic(), as is over_at
    over_at: float | None = None

    def read(self, session: SessionInfo) -> None:
        """Take over the state of the session."""
        self.expires_at = epoch_seconds(session.expires_at)
        self.warning = session.timeout_config.warning_threshold_minutes * 60
        self.state = "expiring" if session.is_near_expiration else "active"
        self.read_at = time.monotonic()

    def end(self, state: str) -> None:
        """Note that the session is over."""
        if self.over_at is None:
            self.over_at = time.monotonic()
        self.state = state


class Watched:
    """The newest sessions, up to ``room``, and the number of all that match.

    A new one takes the first place, and the last one gives way. So memory does not grow with the
    number of sessions.
    """

    def __init__(self) -> None:
        self.room = 1
        self.total = 0
        self._rows: dict[str, Row] = {}  # the oldest first
        self._ahead = 0.0  # seconds by which the service's clock is ahead of ours
        self._listed_at = 0.0  # by the clock of the service

    @property
    def now(self) -> float:
        """The time by the clock of the service."""
        return time.time() + self._ahead

    @property
    def rows(self) -> list[Row]:
        """The sessions to show, the newest first; removes those that have been shown as over."""
        past = time.monotonic() - KEPT_SECONDS
        for row in [*self._rows.values()]:
            if row.over_at is not None and row.over_at < past:
                del self._rows[row.session_id]
        self._make_room()
        return [*self._rows.values()][::-1]

    def has_vacancy(self) -> bool:
        """Return whether there are sessions that would fit on the screen and are not known."""
        live = sum(row.over_at is None for row in self._rows.values())
        return live < self.total and len(self._rows) < self.room

    def due(self) -> Iterator[Row]:
        """Return the rows to read: their time seems up, or the last time is long ago."""
        now, past = self.now, time.monotonic() - READ_SECONDS
        for row in self._rows.values():
            if row.over_at is None and (row.expires_at <= now or row.read_at < past):
                yield row

    def clear(self) -> None:
        """Forget all sessions."""
        self._rows.clear()

    def list(self, page: SessionList) -> None:
        """Take over the first page: the state of known sessions, and others to fill the room."""
        self.total = page.total
        found: dict[str, Row] = {}
        for session in page.sessions:
            self.read(session)
            if session.session_id not in self._rows:
                found[session.session_id] = _row_of(session)
        self._listed_at = self.now
        vacant = max(0, self.room - len(self._rows))
        older = [*found.items()][:vacant]
        self._rows = {**dict(older[::-1]), **self._rows}

    def read(self, session: SessionInfo) -> None:
        """Take over the state of a session, and the time of the service."""
        self._ahead = (
            epoch_seconds(session.expires_at) - session.time_remaining / 1000 - time.time()
        )
        row = self._rows.get(session.session_id)
        if row is not None and row.over_at is None:
            row.read(session)

    def apply(self, event: CloudEvent) -> None:
        """Take over an event."""
        kind, at = type_of(event), epoch_seconds(event.time)
        is_counted = at <= self._listed_at
        if kind == "created":
            self.total += not is_counted
            self._add(event, at)
        elif kind in LAST_TYPES:
            self.total = max(0, self.total - (not is_counted))
        if (row := self._rows.get(event.subject)) is None:
            return
        row.event, row.event_at = event.data.get("reason", kind), at
        if "expiresAt" in event.data:
            row.expires_at = epoch_seconds(event.data["expiresAt"])
        if "timeoutConfig" in event.data:
            row.warning = event.data["timeoutConfig"]["warningThresholdMinutes"] * 60
        if kind in LAST_TYPES:
            row.end(kind)
        elif kind == "expiring":
            row.state = kind
        elif kind in ("renewed", "updated"):
            is_near = row.warning is not None and row.expires_at - self.now <= row.warning
            row.state = "expiring" if is_near else "active"

    def _add(self, event: CloudEvent, at: float) -> None:
        if event.subject in self._rows:
            return
        self._rows[event.subject] = Row(
            session_id=event.subject,
            user_id=event.data["userId"],
            agent_id=event.data["agentId"],
            created_at=at,
            expires_at=epoch_seconds(event.data["expiresAt"]),
            read_at=time.monotonic(),
        )
        self._make_room()

    def _make_room(self) -> None:
        for session_id in [*self._rows][: max(0, len(self._rows) - self.room)]:
            del self._rows[session_id]


def _row_of(session: SessionInfo) -> Row:
    row = Row(
        session_id=session.session_id,
        user_id=session.user_id,
        agent_id=session.agent_id,
        created_at=epoch_seconds(session.created_at),
        expires_at=0.0,
    )
    row.read(session)
    return row
