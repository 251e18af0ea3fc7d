"""What the handlers work with."""

import time

from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.repository import SessionRepository


class Service:
    """The repository, the rules, and the state of this process."""

    def __init__(self, repository: SessionRepository, policy: TimeoutPolicy) -> None:
        self.repository = repository
        self.policy = policy
        self.draining = False
        self._started = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 3)
