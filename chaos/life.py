"""The life of a session with a back end, call by call."""

import asyncio
import random

import msgspec

from chaos.backend import OVER, UNKNOWN, BackEnd
from chaos.following import Following
from chaos.observations import ExpectedSession
from session_service.api.sessions import SessionInfo
from session_service.client import (
    SessionExpired,
    SessionNotFound,
    SessionServiceError,
    TimeoutSettings,
)
from tests.support.factories import new_uuid

_BRIEF_MINUTES = 1.0 / 60  # the timeout of a session that is left to expire
_WARNING_MINUTES = 0.6 / 60
_OPERATIONS = 80  # at most

# How often each operation is chosen, of 16.
_WEIGHTS = {
    "send": 7,
    "heartbeat": 2,
    "renew": 2,
    "change_timeout": 1,
    "get": 1,
    "read": 2,
    "list": 1,
}


class Life:
    """Creates a session, works with it, and ends it or lets it expire."""

    def __init__(self, backend: BackEnd, following: Following) -> None:
        self.backend = backend
        self.following = following
        self._operations = {
            "send": self._send,
            "heartbeat": self._heartbeat,
            "renew": self._renew,
            "change_timeout": self._change_timeout,
            "get": self._get,
            "read": self._read,
            "list": self._list,
        }

    async def lead(self, stop: asyncio.Event, pause: float) -> None:
        """Follow a session from before its creation to its last event, and check all events."""
        self.backend.doing = "follow"
        await self.following.begin()
        session, messages = await self._spend(stop, pause)
        self.backend.doing = f"follow until it is {session.state}"
        await self.following.finish()
        for problem in await self.following.problems(session, messages):
            self.backend.note(problem, session)
        await self._find_it_over(session)

    async def _spend(self, stop: asyncio.Event, pause: float) -> tuple[ExpectedSession, list[str]]:
        """Return the session when it is over, or about to expire, and the ids of its messages."""
        session = await self._create(self.following.user)
        names, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        for _ in range(random.randrange(10, _OPERATIONS)):
            if stop.is_set():
                break
            (name,) = random.choices(names, weights)
            await self._operations[name](session)
            await asyncio.sleep(random.uniform(0, 2 * pause))
        messages = await self._read_until_returned(session)
        await (self._end if random.random() < 0.6 else self._let_expire)(session)
        return session, messages

    async def _create(self, user: str) -> ExpectedSession:
        agent, auto_renew, minutes = new_uuid(), random.random() < 0.5, random.choice((30, 60))
        get_or_create = random.random() < 0.5
        maybe_renewals = 0
        settings = TimeoutSettings(
            timeout_minutes=minutes,
            auto_renew=auto_renew,
            warning_threshold_minutes=_WARNING_MINUTES,
        )
        while True:
            created = await self.backend.call(
                "create",
                self.backend.service.sessions.create(
                    user, agent, timeout_config=settings, get_or_create=get_or_create
                ),
            )
            if not isinstance(created, SessionServiceError):
                break
            get_or_create = True  # it may have been created
            maybe_renewals += auto_renew
        session = ExpectedSession(created.session_id, user, auto_renew, minutes, 0, False)
        session.maybe_renewals = maybe_renewals
        self.backend.sessions.append(session)
        self.backend.observations.statuses["session"] += 1
        if created.user_id != user or created.agent_id != agent:
            self.backend.note("WRONG: created for another", session)
        return session

    async def _send(self, session: ExpectedSession) -> None:
        content, key = f"{session.id} {new_uuid()}", random.choice((None, new_uuid()))
        while True:
            sent = await self.backend.call(
                "send",
                self.backend.service.messages.send(session.id, content, idempotency_key=key),
            )
            if not isinstance(sent, SessionServiceError):
                session.messages.append(content)
                session.renewals += session.auto_renew
                if sent.content != content:
                    self.backend.note(f"WRONG: sent {sent.content}", session)
                return None
            if isinstance(sent, OVER):
                return self.backend.note(f"send: {sent}", session)
            if key is None:  # with a key of the caller's own it can be sent again
                session.maybe_messages.add(content)
                session.maybe_renewals += session.auto_renew
                return None

    async def _heartbeat(self, session: ExpectedSession) -> None:
        """Make a heartbeat; without a key, each of the client's requests may be one."""
        key = random.choice((None, new_uuid()))
        repeats = 0 if key else self.backend.max_retries
        call = self.backend.service.sessions.heartbeat(session.id, idempotency_key=key)
        info = await self.backend.call("heartbeat", call)
        session.maybe_renewals += session.auto_renew * (
            repeats + isinstance(info, SessionServiceError)
        )
        session.renewals += session.auto_renew * isinstance(info, SessionInfo)
        self._check_info(session, info, "heartbeat")

    async def _renew(self, session: ExpectedSession) -> None:
        info = await self.backend.call("renew", self.backend.service.sessions.renew(session.id))
        session.maybe_renewals += isinstance(info, SessionServiceError)
        session.renewals += isinstance(info, SessionInfo)
        self._check_info(session, info, "renew")

    async def _change_timeout(self, session: ExpectedSession) -> None:
        minutes = random.choice((30, 45, 60, 90))
        info = await self.backend.call(
            "change_timeout",
            self.backend.service.sessions.update_timeout(session.id, timeout_minutes=minutes),
            is_repeatable=False,
        )
        if isinstance(info, SessionInfo):
            session.timeout = minutes
        else:
            session.maybe_timeouts.add(minutes)
        self._check_info(session, info, "change_timeout")

    async def _get(self, session: ExpectedSession) -> None:
        info = await self.backend.call("get", self.backend.service.sessions.get(session.id))
        self._check_info(session, info, "get")

    async def _list(self, session: ExpectedSession) -> None:
        listed = await self.backend.call("list", self._listed(session.user))
        if not isinstance(listed, SessionServiceError) and listed != [session.id]:
            self.backend.note(f"listed as {listed}", session)

    async def _listed(self, user: str) -> list[str]:
        return [
            info.session_id
            async for info in self.backend.service.sessions.list(user_id=user, limit=1)
        ]

    async def _read(self, session: ExpectedSession) -> list[str] | None:
        """Read the conversation, in pages and in either direction; return the messages' ids."""
        is_forward = random.random() < 0.5
        pages = self.backend.service.messages.list(
            session.id, after=0 if is_forward else None, limit=random.randrange(1, 50)
        )

        async def all_of() -> list[dict[str, str]]:
            return [msgspec.to_builtins(message) async for message in pages]

        messages = await self.backend.call("read", all_of())
        if isinstance(messages, OVER):
            self.backend.note(f"read: {messages}", session)
            return []
        if isinstance(messages, SessionServiceError):
            return None
        newest_first = messages[::-1] if is_forward else messages
        for problem in session.history_problems(newest_first):
            self.backend.note(f"{problem} [read]", session)
        return [message["id"] for message in reversed(newest_first)]

    async def _read_until_returned(self, session: ExpectedSession) -> list[str]:
        while True:
            messages = await self._read(session)
            if messages is not None:
                return messages
            await asyncio.sleep(0.1)

    async def _end(self, session: ExpectedSession, *, has_failed: bool = False) -> None:
        """End the session; only if a call has failed, the next one may find it ended."""
        session.state = "ended"
        while True:
            ended = await self.backend.call("end", self.backend.service.sessions.end(session.id))
            if isinstance(ended, UNKNOWN):
                has_failed = True
                continue
            if isinstance(ended, SessionServiceError) and not has_failed:
                self.backend.note(f"end: {ended}", session)
            return

    async def _let_expire(self, session: ExpectedSession) -> None:
        session.state = "expired"
        has_failed = False
        while True:
            await self.backend.call("renew", self.backend.service.sessions.renew(session.id))
            changed = await self.backend.call(
                "change_timeout",
                self.backend.service.sessions.update_timeout(
                    session.id, timeout_minutes=_BRIEF_MINUTES
                ),
                is_repeatable=False,
            )
            if isinstance(changed, UNKNOWN):
                has_failed = True
                continue
            if isinstance(changed, SessionServiceError) and not has_failed:
                self.backend.note(f"change_timeout: {changed}", session)
            return

    async def _find_it_over(self, session: ExpectedSession) -> None:
        """Check that a session that is over can be neither read nor ended again."""
        expected = SessionNotFound if session.state == "ended" else SessionExpired
        found = await self.backend.call("get", self.backend.service.sessions.get(session.id))
        if not isinstance(found, (expected, *UNKNOWN)):
            self.backend.note(f"WRONG: {session.state}, and read as {found!r}", session)
        ended = await self.backend.call("end", self.backend.service.sessions.end(session.id))
        if not isinstance(ended, (SessionNotFound, *UNKNOWN)):
            self.backend.note(f"WRONG: {session.state}, and then ended: {ended!r}", session)
        self.backend.observations.statuses[session.state] += 1

    def _check_info(
        self, session: ExpectedSession, info: SessionInfo | SessionServiceError, operation: str
    ) -> None:
        if isinstance(info, SessionInfo):
            for problem in session.info_problems(msgspec.to_builtins(info)):
                self.backend.note(f"{problem} [{operation}]", session)
        elif isinstance(info, OVER):
            self.backend.note(f"{operation}: {info}", session)
