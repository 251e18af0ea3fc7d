"""A back end: its clients, one for each address of the service, and what their calls may do."""

import asyncio
import random
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from chaos.observations import ExpectedSession, Observations
from session_service.client import (
    ConnectionFailed,
    NotReady,
    Overloaded,
    RequestTimedOut,
    SessionExpired,
    SessionNotFound,
    SessionService,
    SessionServiceError,
    StoreUnavailable,
)

R = TypeVar("R")

DEFAULT, PATIENT = 2, 20  # max_retries: the client's own, and enough to outlive any fault

# What a call may raise while nodes and the store are killed. Its effect is then unknown.
UNKNOWN = (ConnectionFailed, RequestTimedOut, StoreUnavailable, NotReady, Overloaded)
OVER = (SessionNotFound, SessionExpired)


class BackEnd:
    """Calls the service, and notes what the client must not raise.

    If it is patient, no call that the client may repeat fails.
    """

    def __init__(
        self,
        services: Sequence[SessionService],
        observations: Observations,
        sessions: list[ExpectedSession],
        max_retries: int,
    ) -> None:
        self.services = services
        self.service = services[0]  # which the present life uses
        self.observations = observations
        self.sessions = sessions  # of all back ends
        self.max_retries = max_retries
        self.doing = ""  # for the report of a life that has no end

    def refuse(
        self, operation: str, error: SessionServiceError, *, is_excused: bool = False
    ) -> None:
        """Note a call that failed; those of a patient back end need an excuse."""
        kind = next(each for each in UNKNOWN if isinstance(error, each))
        self.observations.add_refusal(kind.__name__)
        if self.max_retries == PATIENT and not is_excused:
            self.blame(operation, error)

    def blame(self, operation: str, error: Exception) -> None:
        """Note an exception that the client must not raise."""
        self.observations.add_violation(f"raised {type(error).__name__}: {error}", None, operation)

    async def call(
        self, operation: str, call: Awaitable[R], *, is_repeatable: bool = True
    ) -> R | SessionServiceError:
        """Return the result of a call, or what it raised."""
        started, self.doing = time.monotonic(), operation
        try:
            result = await call
        except UNKNOWN as error:
            self.refuse(operation, error, is_excused=not is_repeatable)
            await asyncio.sleep(random.uniform(0.05, 0.2))
            return error
        except OVER as error:
            return error
        except Exception as error:  # noqa: BLE001 - it is a violation, whatever it is
            self.blame(operation, error)
            await asyncio.sleep(0.1)
            return SessionServiceError("a violation")
        self.observations.slowest = max(self.observations.slowest, time.monotonic() - started)
        self.observations.statuses["returned"] += 1
        self.observations.served += 1
        return result

    def note(self, problem: str, session: ExpectedSession) -> None:
        """Note a problem of a session; one that starts with ``WRONG`` is no loss."""
        if problem.startswith("WRONG"):
            self.observations.add_violation(problem, session)
        else:
            self.observations.lost.append(f"{session.id}: {problem}")
