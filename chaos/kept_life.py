"""The life of a session of a few seconds that ``service.session`` keeps alive."""

import asyncio
import random
from contextlib import AsyncExitStack

from chaos.life import Life
from chaos.observations import ExpectedSession
from session_service.client import (
    LiveSession,
    SessionExpired,
    SessionServiceError,
    TimeoutSettings,
)
from tests.support.factories import new_uuid

_SECONDS = 5.0  # the timeout, twice the time in which a node is replaced on a busy machine
_MESSAGES = 5
_MANY = 1000  # renewals by heartbeats, which are not counted


class KeptLife(Life):
    """Does nothing for longer than the timeout, and finds the session alive.

    Heartbeats renew it, or the callback that warns of its expiry. If neither does, it expires.
    """

    async def _spend(self, _stop: asyncio.Event, pause: float) -> tuple[ExpectedSession, list[str]]:
        self._is_renewing, auto_renew = random.choice(
            ((False, True), (False, True), (True, False), (False, False))
        )
        self._warned: list[str] = []  # the deadlines of which it was warned
        self._is_over = asyncio.Event()
        warning = random.uniform(0.2, 0.7) * _SECONDS
        settings = TimeoutSettings(
            timeout_minutes=_SECONDS / 60,
            auto_renew=auto_renew,
            warning_threshold_minutes=warning / 60,
        )
        messages: list[str] = []
        async with AsyncExitStack() as stack:
            live = await self._enter(stack, settings)
            session = ExpectedSession(
                live.id, live.info.user_id, auto_renew, _SECONDS / 60, 0, False
            )
            session.maybe_renewals = _MANY
            self.backend.sessions.append(session)
            self.backend.observations.statuses["session"] += 1
            if auto_renew or self._is_renewing:
                self.backend.doing = "let it be kept alive"
                await asyncio.sleep(random.uniform(1.2, 1.7) * _SECONDS)
                if await self._is_alive(live, session):
                    messages = await self._use(session, pause)
            else:
                self.backend.doing = "wait for on_over"
                await self._is_over.wait()
                session.state = "expired"
            self._check(live, session)
            left = await self.backend.call("leave", stack.aclose())
        if session.state != "expired":
            if isinstance(left, SessionServiceError):
                await self._end(session, has_failed=True)
            session.state = "ended"
            self.backend.observations.statuses["kept"] += 1
        return session, messages

    async def _enter(self, stack: AsyncExitStack, settings: TimeoutSettings) -> LiveSession:
        agent = new_uuid()
        while True:
            entering = self.backend.service.session(
                self.following.user,
                agent,
                timeout_config=settings,
                end_at_exit=True,
                on_expiring=self._warn,
                on_over=self._note_the_end,
            )
            entered = await self.backend.call("session", stack.enter_async_context(entering))
            if isinstance(entered, LiveSession):
                return entered

    async def _is_alive(self, live: LiveSession, session: ExpectedSession) -> bool:
        """Renew it, and return whether it was kept alive: it was not if the outage was too long."""
        while True:
            renewed = await self.backend.call("renew", live.renew())
            if isinstance(renewed, SessionExpired):
                session.state = "expired"
                late = f"{session.id}: was not kept alive: {live.over}"
                self.backend.observations.late.append(late)
                return False
            if not isinstance(renewed, SessionServiceError):
                return True

    async def _use(self, session: ExpectedSession, pause: float) -> list[str]:
        """Send some messages; return the ids of all."""
        for _ in range(random.randrange(_MESSAGES)):
            await self._send(session)
            await asyncio.sleep(random.uniform(0, 2 * pause))
        return await self._read_until_returned(session)

    async def _warn(self, live: LiveSession) -> None:
        self._warned.append(live.info.expires_at)
        while self._is_renewing:
            renewed = await self.backend.call("renew", live.renew())
            if not isinstance(renewed, SessionServiceError):
                return

    def _note_the_end(self, _live: LiveSession) -> None:
        if self._is_over.is_set():
            self.backend.observations.add_violation("on_over was called twice")
        self._is_over.set()

    def _check(self, live: LiveSession, session: ExpectedSession) -> None:
        """Check the callbacks and ``over``."""
        if self._is_over.is_set() and not isinstance(live.over, SessionExpired):
            self.backend.note(f"WRONG: on_over was called, and over is {live.over!r}", session)
        if live.over is not None and session.state != "expired":
            self.backend.note(f"WRONG: alive, and over is {live.over!r}", session)
        if len(self._warned) != len(set(self._warned)):
            self.backend.note(f"WRONG: warned twice of a deadline: {self._warned}", session)
        if session.auto_renew and self._warned:
            self.backend.note("WRONG: warned, although heartbeats renew it", session)
        if self._is_renewing and not self._warned and session.state != "expired":
            self.backend.note("WRONG: not warned of its expiry", session)
