"""Back ends that use the Python client while their nodes and their store are killed.

Each back end leads one session after the other through its whole life: it follows the user's
events, creates the session, sends messages, reads them, keeps it alive, and ends it or lets it
expire; with single calls (``life``) or with ``service.session`` (``kept_life``). A call that
returned has had its effect once, also if the client repeated its request; a call that raised may
have had it, once at most. The stream has every event once.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from chaos.backend import DEFAULT, PATIENT, BackEnd
from chaos.following import Following
from chaos.kept_life import KeptLife
from chaos.life import Life
from chaos.observations import Observations
from chaos.workload import Load
from session_service.client import SessionService, SessionServiceError
from tests.support.factories import new_uuid

_log = logging.getLogger("session_service.client")

_SECONDS = 60.0  # bound for a life, which takes a few seconds and the time of one fault


class _Worker:
    """Leads one life after the other; a stop makes the last one short."""

    def __init__(self, backend: BackEnd) -> None:
        self._backend = backend

    async def work(self, stop: asyncio.Event, pause: float) -> None:
        backend = self._backend
        kind = random.choices((Life, KeptLife), (3, 2))[0]
        while not stop.is_set():
            backend.service = random.choice(backend.services)
            following = Following(backend, new_uuid())
            try:
                async with asyncio.timeout(_SECONDS):
                    await kind(backend, following).lead(stop, pause)
            except Exception as error:  # noqa: BLE001 - such as a TimeoutError: it is a violation
                backend.blame(backend.doing, error)
            finally:
                await following.close()
            kind = Life  # a kept life takes long, so it has to begin before the fault


class _Errors(logging.Handler):
    """Notes what the client logs as an error; outages are only warnings."""

    def __init__(self, observations: Observations) -> None:
        super().__init__()
        self._observations = observations

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self._observations.add_violation(f"logged: {record.getMessage()}")


class Lives(Load):
    """Back ends that use the Python client. Every address leads to some node of one store.

    One half has the client's default patience, the other one outlives any fault.
    """

    def __init__(self, addresses: Sequence[str], backends: int = 32, *, pause: float = 0.02):
        super().__init__(pause)
        self._errors = _Errors(self.observations)
        _log.addHandler(self._errors)
        self._services: list[SessionService] = []
        self._workers = [
            _Worker(
                BackEnd(
                    self._connect(addresses, max_retries),
                    self.observations,
                    self.sessions,
                    max_retries,
                )
            )
            for max_retries in (DEFAULT, PATIENT)
            for _ in range(backends // 2)
        ]

    def _connect(self, addresses: Sequence[str], max_retries: int) -> list[SessionService]:
        services = [SessionService(url, max_retries=max_retries) for url in addresses]
        self._services += services
        return services

    async def audit(self) -> None:
        """Check that no session is left, as every back end has ended its own."""
        self.sessions.clear()
        left = [info async for info in self._services[-1].sessions.list()]
        for info in left:
            self.observations.add_violation(f"session {info.session_id} has leaked")
            with suppress(SessionServiceError):
                await self._services[-1].sessions.end(info.session_id)

    async def close(self) -> None:
        _log.removeHandler(self._errors)
        for service in self._services:
            await service.close()
