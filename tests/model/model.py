"""The session rules, written from the contract as plainly as can be, to hold the service against.

Times are epoch milliseconds, durations milliseconds. Every operation is told the time.
"""

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass
class ModelSession:
    """One session: what it was given, and what has happened to it."""

    created: int
    timeout: int
    duration: int
    warning: int
    auto_renew: bool
    retention: int
    renewed: int = 0
    active: int = 0
    renewals: int = 0
    ended: bool = False
    messages: list[int] = field(default_factory=list)  # when each was created

    def __post_init__(self) -> None:
        self.renewed = self.renewed or self.created
        self.active = self.active or self.created

    @property
    def expires(self) -> int:
        return min(self.renewed + self.timeout, self.created + self.duration)

    def state(self, now: int) -> str:
        """Live, expired (410) or missing (404)."""
        if self.ended or now >= self.expires + self.retention:
            return "missing"
        return "live" if now < self.expires else "expired"

    def end(self, now: int) -> bool:
        """Whether this call ended it."""
        was_live = self.state(now) == "live"
        self.ended = self.ended or was_live
        return was_live

    def renew(self, now: int) -> str:
        """Renew because asked to; live, or exhausted at the maximum duration."""
        if (state := self.state(now)) != "live":
            return state
        if not self._renew(now):
            return "exhausted"
        self.active = now
        return "live"

    def heartbeat(self, now: int) -> str:
        """Count an activity."""
        if (state := self.state(now)) == "live":
            self._touch(now)
        return state

    def send(self, now: int) -> str:
        """Store a message, a millisecond after the last one at least."""
        if (state := self.state(now)) == "live":
            self.messages.append(max([now, *(created + 1 for created in self.messages[-1:])]))
            self._touch(now)
        return state

    def change(self, now: int, **values: Any) -> str:
        """Change timeout values; conflict and past change nothing."""
        if (state := self.state(now)) != "live":
            return state
        changed = replace(self, **values)
        if changed.duration < changed.timeout or changed.warning > changed.timeout:
            return "conflict"
        if changed.expires <= now:
            return "past"
        self.__dict__.update(values)
        return "live"

    def _touch(self, now: int) -> None:
        self.active = now
        if self.auto_renew:
            self._renew(now)

    def _renew(self, now: int) -> bool:
        if self.expires == self.created + self.duration:
            return False
        self.renewed = now
        self.renewals += 1
        return True
