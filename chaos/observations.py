"""The state of sessions that the service has acknowledged, and all that the clients observed."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ExpectedSession:
    """The acknowledged state of a session.

    A request that was answered 503, or not at all, may have happened or not, at once or later. Its
    effect is kept apart, in the ``maybe_`` fields.
    """

    id: str
    user: str
    auto_renew: bool
    timeout: float  # minutes
    expires_at: float  # epoch ms, at its creation
    is_brief: bool  # left alone, so that it expires
    maybe_timeouts: set[float] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)  # contents, in order
    maybe_messages: set[str] = field(default_factory=set)
    renewals: int = 0
    maybe_renewals: int = 0
    state: str = "live"  # or "ended", "maybe ended", "expired", "suspect"
    suspicion: str = ""  # the response that made it suspect

    def info_problems(self, info: dict[str, Any]) -> Iterator[str]:
        """Yield each contradiction between a session info and the acknowledged state.

        A problem that starts with ``WRONG`` is a false response; any other is a loss.
        """
        if info["sessionId"] != self.id or info["userId"] != self.user:
            yield "WRONG: another session's answer"
        if info["renewalCount"] < self.renewals:
            yield f"lost renewals: {info['renewalCount']} of {self.renewals}"
        if info["renewalCount"] > self.renewals + self.maybe_renewals:
            yield (
                f"WRONG: renewed {info['renewalCount']} times, asked"
                f" {self.renewals}+{self.maybe_renewals} times"
            )
        if (minutes := info["timeoutConfig"]["timeoutMinutes"]) not in {
            self.timeout,
            *self.maybe_timeouts,
        }:
            yield f"lost timeout: {minutes}, not {self.timeout}"

    def history_problems(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        """Yield each contradiction in a complete conversation, newest message first."""
        contents = [message["content"] for message in reversed(messages)]
        if len(contents) != len(set(contents)):
            yield f"WRONG: a message twice: {contents}"
        if foreign := set(contents) - set(self.messages) - self.maybe_messages:
            yield f"WRONG: messages that were not sent here: {foreign}"
        acknowledged = set(self.messages)
        kept = [content for content in contents if content in acknowledged]
        if kept != self.messages:
            yield f"lost messages: {len(kept)} of {len(self.messages)} kept, in order"

    def suspect(self, suspicion: str) -> None:
        """Leave the session alone until the audit shows whether the response was false."""
        if self.state != "suspect":
            self.state, self.suspicion = "suspect", suspicion


class Observations:
    """All that the clients observed since the last ``reset``."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.violations: list[str] = []
        self.late: list[str] = []  # responses after the bound
        self.lost: list[str] = []
        self.slowest = 0.0  # seconds
        self.last_refusal = 0.0  # monotonic, of the last 503 or missing response
        self.served = 0  # requests since the last refusal

    def add_refusal(self, kind: str) -> None:
        """Count a request that was answered 503 or not at all."""
        self.statuses[kind] += 1
        self.last_refusal = time.monotonic()
        self.served = 0

    def add_violation(
        self, problem: str, session: ExpectedSession | None = None, operation: str = ""
    ) -> None:
        """Note a false response; only the first 100 are kept."""
        if len(self.violations) < 100:
            name = session.id if session else ""
            self.violations.append(f"{operation} {name}: {problem}".strip())

    def add_problem(self, problem: str, session: ExpectedSession, operation: str) -> None:
        """Note a false response, or leave a session with a possible loss to the audit."""
        if problem.startswith("WRONG"):
            self.add_violation(problem, session, operation)
        else:
            session.suspect(f"{operation}: {problem}")
