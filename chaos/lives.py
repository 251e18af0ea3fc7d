"""Back ends that use the Python client while their nodes and their store are killed.

Each back end leads one session after the other through its whole life: it follows the user's
events, creates the session, sends messages, reads them, keeps it alive, and ends it or lets it
expire. A call that returned has had its effect once, also if the client repeated its request; a
call that raised may have had it, once at most. The stream has every event once.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from chaos.observations import ExpectedSession, Observations
from chaos.workload import Load
from session_service.api.events import CloudEvent
from session_service.api.sessions import SessionInfo
from session_service.client import (
    ConnectionFailed,
    EventStream,
    NotReady,
    Overloaded,
    RequestTimedOut,
    Reset,
    SessionExpired,
    SessionNotFound,
    SessionService,
    SessionServiceError,
    StoreUnavailable,
    TimeoutSettings,
)
from tests.support.factories import new_uuid

R = TypeVar("R")

# Of the back ends, one half has the client's own patience, and one outlives any fault.
_DEFAULT, _PATIENT = 2, 20  # max_retries

# What a call may raise while nodes and the store are killed. Its effect is then unknown.
_UNKNOWN = (ConnectionFailed, RequestTimedOut, StoreUnavailable, NotReady, Overloaded)
_OVER = (SessionNotFound, SessionExpired)

_LAST = ("session.ended", "session.expired")
_BRIEF_MINUTES = 1.0 / 60  # the timeout of a session that is left to expire
_WARNING_MINUTES = 0.6 / 60
_LIFE_SECONDS = 60.0  # bound for a life, which takes a few seconds and the time of one fault
_OPERATIONS = 80  # of one life, at most

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


class Following:
    """The events of a user from before their session's creation until its last event.

    Now and then it closes its stream, and goes on from the position that it kept, perhaps at
    another address.
    """

    def __init__(self, backend: "BackEnd", user: str) -> None:
        self.events: list[CloudEvent] = []
        self.has_reset = False
        self.position: str | None = None
        self.start: str | None = None  # the position before the first event
        self.user = user
        self._backend = backend
        self._has_begun = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def begin(self) -> None:
        """Wait until the first stream is open."""
        await self._has_begun.wait()

    async def finish(self) -> None:
        """Wait for the last event."""
        await self._reading

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        while not (self.events and self.events[-1].type in _LAST):
            service = random.choice(self._backend.services)
            stream = service.events.follow(user_id=self.user, last_event_id=self.position)
            beginning = asyncio.create_task(self._note_the_beginning(stream))
            try:
                async for event in stream:
                    self._backend.observations.statuses["event"] += 1
                    if isinstance(event, CloudEvent):
                        self.events.append(event)
                    else:
                        self._note_reset()
                    if random.random() < 0.1 or event.type in _LAST:
                        break
            except _UNKNOWN as error:
                self._backend.refuse("follow", error, is_excused=not self._has_begun.is_set())
                await asyncio.sleep(random.uniform(0.05, 0.2))
            except Exception as error:  # noqa: BLE001 - it is a violation, whatever it is
                self._backend.blame("follow", error)
                return
            finally:
                beginning.cancel()
            self.position = stream.position

    async def _note_the_beginning(self, stream: EventStream) -> None:
        while not self._has_begun.is_set():
            if stream.position is not None:
                self.start = stream.position
                self._has_begun.set()
            await asyncio.sleep(0.005)

    def _note_reset(self) -> None:
        self.has_reset = True
        self._backend.observations.statuses["reset"] += 1

    async def problems(self, session: ExpectedSession, messages: list[str], how: str) -> list[str]:
        """Return what is wrong with the events of a session that is over.

        ``messages`` are the ids of its messages, in order; it ended ``how``: ``ended`` or
        ``expired``. A problem that starts with ``WRONG`` is something that happened twice.
        """
        found: list[str] = []
        types = Counter(event.type for event in self.events)
        ids = [event.id for event in self.events]
        if foreign := {event.subject for event in self.events} - {session.id}:
            found.append(f"WRONG: {len(foreign)} more sessions were created for its user")
        if len(ids) != len(set(ids)):
            found.append(f"WRONG: {len(ids) - len(set(ids))} events came twice")
        if types["session.created"] > 1:
            found.append(f"WRONG: it was created {types['session.created']} times")
        if self.has_reset:
            return found
        if self.events[0].type != "session.created":
            found.append(f"its first event is {self.events[0].type}")
        if self.events[-1].type != f"session.{how}":
            found.append(f"WRONG: it is {how}, and its last event is {self.events[-1].type}")
        told = [event.data["messageId"] for event in self.events if event.type == "session.message"]
        if told != messages:
            found.append(f"events of {len(told)} messages, in order, of {len(messages)}")
        again = await self._read_again(session.id)
        if again is not None and again != ids:
            found.append(f"{len(again)} events from the position kept, {len(ids)} before")
        return found

    async def _read_again(self, session_id: str) -> list[str] | None:
        """Return the ids of the events from before the session's creation; None if reset."""
        stream = self._backend.service.events.follow(
            session_id=session_id, last_event_id=self.start
        )
        ids: list[str] = []
        async for event in stream:
            if isinstance(event, Reset):
                return None
            ids.append(event.id)
        return ids


class BackEnd:
    """One back end, with a client of its own for each address of the service."""

    def __init__(
        self,
        services: Sequence[SessionService],
        observations: Observations,
        sessions: list[ExpectedSession],
        max_retries: int,
    ) -> None:
        self.services = services
        self.service = services[0]
        self.observations = observations
        self._sessions = sessions  # of all back ends
        self._max_retries = max_retries
        self._doing = ""
        self._operations = {
            "send": self._send,
            "heartbeat": self._heartbeat,
            "renew": self._renew,
            "change_timeout": self._change_timeout,
            "get": self._get,
            "read": self._read,
            "list": self._list,
        }

    async def work(self, stop: asyncio.Event, pause: float) -> None:
        """Lead one life after the other; a stop makes the last one short."""
        while not stop.is_set():
            self.service = random.choice(self.services)
            following = Following(self, new_uuid())
            try:
                async with asyncio.timeout(_LIFE_SECONDS):
                    await self._lead(following, stop, pause)
            except TimeoutError:
                self.observations.add_violation(f"no end in {_LIFE_SECONDS:g} s", None, self._doing)
            finally:
                await following.close()

    def refuse(
        self, operation: str, error: SessionServiceError, *, is_excused: bool = False
    ) -> None:
        """Note a call that failed; the patient fail only if the failure is excused."""
        kind = next(each for each in _UNKNOWN if isinstance(error, each))
        self.observations.add_refusal(kind.__name__)
        if self._max_retries == _PATIENT and not is_excused:
            self.blame(operation, error)

    def blame(self, operation: str, error: Exception) -> None:
        """Note an exception that the client must not raise."""
        self.observations.add_violation(f"raised {type(error).__name__}: {error}", None, operation)

    async def call(
        self, operation: str, call: Awaitable[R], *, is_repeatable: bool = True
    ) -> R | SessionServiceError:
        """Return the result of a call, or what it raised.

        A client repeats all that is repeatable for as long as it is patient.
        """
        started, self._doing = time.monotonic(), operation
        try:
            result = await call
        except _UNKNOWN as error:
            self.refuse(operation, error, is_excused=not is_repeatable)
            await asyncio.sleep(random.uniform(0.05, 0.2))
            return error
        except _OVER as error:
            return error
        except Exception as error:  # noqa: BLE001 - it is a violation, whatever it is
            self.blame(operation, error)
            return SessionServiceError("a violation")
        self.observations.slowest = max(self.observations.slowest, time.monotonic() - started)
        self.observations.statuses["returned"] += 1
        self.observations.served += 1
        return result

    async def _lead(self, following: Following, stop: asyncio.Event, pause: float) -> None:
        self._doing = "follow"
        await following.begin()
        session = await self._create(following.user)
        names, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        for _ in range(random.randrange(10, _OPERATIONS)):
            if stop.is_set():
                break
            (name,) = random.choices(names, weights)
            await self._operations[name](session)
            await asyncio.sleep(random.uniform(0, 2 * pause))
        messages = await self._read_until_returned(session)
        await (self._end if random.random() < 0.6 else self._let_expire)(session)
        self._doing = f"follow until it is {session.state}"
        await following.finish()
        for problem in await following.problems(session, messages, session.state):
            self._note(problem, session)
        await self._find_it_over(session)

    def _note(self, problem: str, session: ExpectedSession) -> None:
        if problem.startswith("WRONG"):
            self.observations.add_violation(problem, session)
        else:
            self.observations.lost.append(f"{session.id}: {problem}")

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
            created = await self.call(
                "create",
                self.service.sessions.create(
                    user, agent, timeout_config=settings, get_or_create=get_or_create
                ),
            )
            if not isinstance(created, SessionServiceError):
                break
            get_or_create = True  # it may have been created
            maybe_renewals += auto_renew
        session = ExpectedSession(created.session_id, user, auto_renew, minutes, 0, False)
        session.maybe_renewals = maybe_renewals
        self._sessions.append(session)
        self.observations.statuses["session"] += 1
        if created.user_id != user or created.agent_id != agent:
            self._note("WRONG: created for another", session)
        return session

    async def _send(self, session: ExpectedSession) -> None:
        content, key = f"{session.id} {new_uuid()}", random.choice((None, new_uuid()))
        while True:
            sent = await self.call(
                "send",
                self.service.messages.send(session.id, content, idempotency_key=key),
            )
            if not isinstance(sent, SessionServiceError):
                session.messages.append(content)
                session.renewals += session.auto_renew
                if sent.content != content:
                    self._note(f"WRONG: sent {sent.content}", session)
                return None
            if isinstance(sent, _OVER):
                return self._note(f"send: {sent}", session)
            if key is None:  # with a key of the caller's own it can be sent again
                session.maybe_messages.add(content)
                session.maybe_renewals += session.auto_renew
                return None

    async def _heartbeat(self, session: ExpectedSession) -> None:
        """Make a heartbeat; without a key, each of the client's requests may be one."""
        key = random.choice((None, new_uuid()))
        repeats = 0 if key else self._max_retries
        call = self.service.sessions.heartbeat(session.id, idempotency_key=key)
        info = await self.call("heartbeat", call)
        session.maybe_renewals += session.auto_renew * (
            repeats + isinstance(info, SessionServiceError)
        )
        session.renewals += session.auto_renew * isinstance(info, SessionInfo)
        self._check_info(session, info, "heartbeat")

    async def _renew(self, session: ExpectedSession) -> None:
        info = await self.call("renew", self.service.sessions.renew(session.id))
        session.maybe_renewals += isinstance(info, SessionServiceError)
        session.renewals += isinstance(info, SessionInfo)
        self._check_info(session, info, "renew")

    async def _change_timeout(self, session: ExpectedSession) -> None:
        minutes = random.choice((30, 45, 60, 90))
        info = await self.call(
            "change_timeout",
            self.service.sessions.update_timeout(session.id, timeout_minutes=minutes),
            is_repeatable=False,
        )
        if isinstance(info, SessionInfo):
            session.timeout = minutes
        else:
            session.maybe_timeouts.add(minutes)
        self._check_info(session, info, "change_timeout")

    async def _get(self, session: ExpectedSession) -> None:
        info = await self.call("get", self.service.sessions.get(session.id))
        self._check_info(session, info, "get")

    async def _list(self, session: ExpectedSession) -> None:
        listed = await self.call("list", self._listed(session.user))
        if not isinstance(listed, SessionServiceError) and listed != [session.id]:
            self._note(f"listed as {listed}", session)

    async def _listed(self, user: str) -> list[str]:
        return [info.session_id async for info in self.service.sessions.list(user_id=user, limit=1)]

    async def _read(self, session: ExpectedSession) -> list[str] | None:
        """Read the conversation, in pages and in either direction; return the messages' ids."""
        is_forward = random.random() < 0.5
        pages = self.service.messages.list(
            session.id, after=0 if is_forward else None, limit=random.randrange(1, 50)
        )

        async def all_of() -> list[dict[str, str]]:
            return [msgspec.to_builtins(message) async for message in pages]

        messages = await self.call("read", all_of())
        if isinstance(messages, _OVER):
            self._note(f"read: {messages}", session)
        if isinstance(messages, SessionServiceError):
            return None
        newest_first = messages[::-1] if is_forward else messages
        for problem in session.history_problems(newest_first):
            self._note(f"{problem} [read]", session)
        return [message["id"] for message in reversed(newest_first)]

    async def _read_until_returned(self, session: ExpectedSession) -> list[str]:
        while True:
            messages = await self._read(session)
            if messages is not None:
                return messages
            await asyncio.sleep(0.1)

    async def _end(self, session: ExpectedSession) -> None:
        """End the session; only if a call has failed, the next one may find it ended."""
        session.state = "ended"
        has_failed = False
        while True:
            ended = await self.call("end", self.service.sessions.end(session.id))
            if isinstance(ended, _UNKNOWN):
                has_failed = True
                continue
            if isinstance(ended, SessionServiceError) and not has_failed:
                self._note(f"end: {ended}", session)
            return

    async def _let_expire(self, session: ExpectedSession) -> None:
        session.state = "expired"
        has_failed = False
        while True:
            await self.call("renew", self.service.sessions.renew(session.id))
            changed = await self.call(
                "change_timeout",
                self.service.sessions.update_timeout(session.id, timeout_minutes=_BRIEF_MINUTES),
                is_repeatable=False,
            )
            if isinstance(changed, _UNKNOWN):
                has_failed = True
                continue
            if isinstance(changed, SessionServiceError) and not has_failed:
                self._note(f"change_timeout: {changed}", session)
            return

    async def _find_it_over(self, session: ExpectedSession) -> None:
        """Check that a session that is over can be neither read nor ended again."""
        expected = SessionNotFound if session.state == "ended" else SessionExpired
        found = await self.call("get", self.service.sessions.get(session.id))
        if not isinstance(found, (expected, *_UNKNOWN)):
            self._note(f"WRONG: {session.state}, and read as {found!r}", session)
        ended = await self.call("end", self.service.sessions.end(session.id))
        if not isinstance(ended, (SessionNotFound, *_UNKNOWN)):
            self._note(f"WRONG: {session.state}, and then ended: {ended!r}", session)
        self.observations.statuses[session.state] += 1

    def _check_info(
        self, session: ExpectedSession, info: SessionInfo | SessionServiceError, operation: str
    ) -> None:
        if isinstance(info, SessionInfo):
            for problem in session.info_problems(msgspec.to_builtins(info)):
                self._note(f"{problem} [{operation}]", session)
        elif isinstance(info, _OVER):
            self._note(f"{operation}: {info}", session)


class Lives(Load):
    """Back ends that use the Python client. Every address leads to some node of one store."""

    def __init__(self, addresses: Sequence[str], backends: int = 32, *, pause: float = 0.02):
        super().__init__(pause)
        self._services: list[SessionService] = []
        self._workers = [
            BackEnd(
                self._connect(addresses, max_retries),
                self.observations,
                self.sessions,
                max_retries,
            )
            for max_retries in (_DEFAULT, _PATIENT)
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
        for service in self._services:
            await service.close()
