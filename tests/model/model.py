"""The session rules in a few lines of Python, written from the contract, to test against.

Times are epoch milliseconds and durations milliseconds. Every operation takes the time as an
argument.
"""

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass
class ModelSession:
    """One session: its settings, and its state."""

    created: int
    timeout: int
    duration: int
    warning: int
    auto_renew: bool
    retention: int
    renewed: int = 0
    active: int = 0
    renewals: int = 0
    announced: int = 0  # of the renewals, those that are an event
    ended: bool = False
    messages: list[int] = field(default_factory=list)  # creation times
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.renewed = self.renewed or self.created
        self.active = self.active or self.created

    @property
    def expires(self) -> int:
        return min(self.renewed + self.timeout, self.created + self.duration)

    def state(self, now: int) -> str:
        """Return ``live``, ``expired`` (410) or ``missing`` (404)."""
        if self.ended or now >= self.expires + self.retention:
            return "missing"
        return "live" if now < self.expires else "expired"

    def end(self, now: int) -> bool:
        """End the session; return whether it was live."""
        was_live = self.state(now) == "live"
        self.ended = self.ended or was_live
        return was_live

    def renew(self, now: int) -> str:
        """Renew on request; return the state, or ``exhausted`` at the maximum duration."""
        if (state := self.state(now)) != "live":
            return state
        if not self._renew(now, is_requested=True):
            return "exhausted"
        self.active = now
        return "live"

    def heartbeat(self, now: int) -> str:
        """Record an activity; return the state."""
        if (state := self.state(now)) == "live":
            self._touch(now)
        return state

    def send(self, now: int) -> str:
        """Store a message, at least a millisecond after the last one; return the state."""
        if (state := self.state(now)) == "live":
            self.messages.append(max([now, *(created + 1 for created in self.messages[-1:])]))
            self._touch(now)
        return state

    def change(self, now: int, **values: Any) -> str:
        """Change timeout values; return ``conflict`` or ``past`` if they are wrong."""
        if (state := self.state(now)) != "live":
            return state
        changed = replace(self, **values)
        if changed.duration < changed.timeout or changed.warning > changed.timeout:
            return "conflict"
        if changed.expires <= now:
            return "past"
        self.__dict__.update(values)
        return "live"

    def merge(self, now: int, patch: dict[str, Any]) -> str:
        """Change the metadata; return the state."""
        if (state := self.state(now)) == "live":
            for name, value in patch.items():
                if value is None:
                    self.metadata.pop(name, None)
                else:
                    self.metadata[name] = value
        return state

    def _touch(self, now: int) -> None:
        self.active = now
        if self.auto_renew:
            self._renew(now, is_requested=False)

    def _renew(self, now: int, *, is_requested: bool) -> bool:
        if self.expires == self.created + self.duration:
            return False
        tenth, was_warned = self._tenth, self.expires - self.warning <= now
        self.renewed = now
        self.renewals += 1
        is_warned = self.expires - self.warning <= now
        is_news = self._tenth != tenth or (was_warned and not is_warned)
        self.announced += is_requested or is_news
        return True

    @property
    def _tenth(self) -> int:
        """The number, from the epoch, of the tenth of the idle timeout of the last renewal."""
        return 10 * self.renewed // self.timeout
