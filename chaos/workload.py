"""Clients that hold the service to its word while things break.

Each session belongs to one client, which does one thing after the other and keeps account of what
was acknowledged. What was answered 503, or not at all, may have happened or not, once, then or
later; all else must be as it was acknowledged, on whichever node it is asked for.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from chaos.fleet import STORE_TIMEOUT, Fleet
from chaos.http import Answer, Connection, NotSent, Unanswered, request
from tests.support.api import SESSIONS
from tests.support.factories import new_uuid

BOUND = STORE_TIMEOUT + 1  # seconds: a request is answered within the store deadline and one
_PATIENCE = 15.0  # seconds; who has no answer then stops waiting
_NO_DEADLINE = BOUND + 2  # seconds: no busy machine adds that much to a deadline
_BRIEF_MINUTES = 0.8 / 60  # the timeout of sessions that are to run out
_CLOCKS_MS = 100  # what may lie between the moment of an answer, and when we come to read it

# What the nodes are to be told, so that sessions can be brief.
SETTINGS = {"SESSION_MIN_TIMEOUT_MINUTES": "0.01", "SESSION_EXPIRED_RETENTION_MINUTES": "10"}

# How often each operation is asked for, of 20.
_OFTEN = {
    "create": 2,
    "talk": 5,
    "beat": 2,
    "renew": 2,
    "change": 2,
    "end": 2,
    "look": 3,
    "read": 2,
    "outlive": 2,
}


@dataclass
class Session:
    """What is known of a session that was acknowledged."""

    id: str
    user: str
    auto_renew: bool
    timeout: float  # minutes, acknowledged
    expires_at: float  # ms, when it was created
    is_brief: bool  # left alone, so that it runs out
    maybe_timeouts: set[float] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)  # acknowledged, in order
    maybe_messages: set[str] = field(default_factory=set)
    renewals: int = 0  # acknowledged
    maybe_renewals: int = 0
    life: str = "live"  # or ended, maybe (ended), expired, or suspect
    suspicion: str = ""

    def problems_of(self, info: dict[str, Any]) -> Iterator[str]:
        """What is wrong in a session info."""
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

    def problems_of_history(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        """What is wrong in a conversation, newest first, of which all was read."""
        contents = [message["content"] for message in reversed(messages)]
        if len(contents) != len(set(contents)):
            yield f"WRONG: a message twice: {contents}"
        if foreign := set(contents) - set(self.messages) - self.maybe_messages:
            yield f"WRONG: messages that were not sent here: {foreign}"
        known = set(self.messages)
        if (kept := [content for content in contents if content in known]) != self.messages:
            yield f"lost messages: {len(kept)} of {len(self.messages)} kept, in order"


class Record:
    """All that the clients saw, from the last ``reset`` on."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.violations: list[str] = []
        self.late: list[str] = []  # answers past the bound
        self.lost: list[str] = []
        self.slowest = 0.0
        self.last_refusal = 0.0  # monotonic: when a 503 or no answer was seen last
        self.served = 0  # requests, since the last refusal

    def refuse(self, kind: str) -> None:
        self.statuses[kind] += 1
        self.last_refusal = time.monotonic()
        self.served = 0

    def add(self, problem: str, session: Session | None = None, op: str = "") -> None:
        if len(self.violations) < 100:
            self.violations.append(f"{op} {session.id if session else ''}: {problem}".strip())


class Workload:
    """Clients of a fleet. ``nodes_die``: whether a request may stay without an answer."""

    def __init__(
        self, fleet: Fleet, clients: int = 16, *, pause: float = 0.02, nodes_die: bool = False
    ) -> None:
        self.fleet = fleet
        self.record = Record()
        self.nodes_die = nodes_die
        self.pause = pause
        self.sessions: list[Session] = []
        self._clients = [_Client(self, n) for n in range(clients)]
        self._askers = [_Client(self, clients + n) for n in range(8)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the clients at work inside of the block; all answers are in when it is over."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(client.work(stop)) for client in self._clients]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def calm(self, since: float, seconds: float = 0.4, bound: float = 30) -> float:
        """Wait until nothing was refused for a while; seconds from ``since`` to the last refusal.

        Raises AssertionError where that does not happen within the bound.
        """
        await asyncio.sleep(max(0.0, since + seconds - time.monotonic()))
        give_up = time.monotonic() + bound
        while True:
            quiet = time.monotonic() - max(self.record.last_refusal, since)
            if quiet >= seconds and self.record.served >= 2 * len(self._clients):
                return max(0.0, self.record.last_refusal - since)
            if time.monotonic() > give_up:
                raise AssertionError(f"requests are still refused after {bound:g} s")
            await asyncio.sleep(0.02)

    async def settle(self) -> None:
        """Compare all sessions with what was acknowledged of them, end them and forget them."""
        sessions, self.sessions = self.sessions, []
        todo = iter(sessions)

        async def work(client: _Client) -> None:
            for session in todo:
                await client.audit(session)

        await asyncio.gather(*(work(client) for client in self._askers))

    def close(self) -> None:
        for client in (*self._clients, *self._askers):
            client.close()


class _Client:
    """One client, with a connection to each node."""

    def __init__(self, workload: Workload, number: int) -> None:
        self._workload = workload
        self._record = workload.record
        self._name = f"c{number}"
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._mine: list[Session] = []
        self._operations: dict[str, Callable[[], Awaitable[None]]] = {
            "create": self._create,
            "talk": self._talk,
            "beat": self._beat,
            "renew": self._renew,
            "change": self._change,
            "end": self._end,
            "look": self._look,
            "read": self._read,
            "outlive": self._outlive,
        }

    async def work(self, stop: asyncio.Event) -> None:
        """Do one thing after the other."""
        names, weights = list(_OFTEN), list(_OFTEN.values())
        while not stop.is_set():
            self._mine = [s for s in self._mine if s.life == "live"]
            live = sum(not s.is_brief for s in self._mine)
            (name,) = random.choices(names, weights) if live else ("create",)
            if name == "create" and live > 5:
                name = "end"
            before = self._record.last_refusal
            await self._operations[name]()
            if self._record.last_refusal != before:
                await asyncio.sleep(random.uniform(0.01, 0.05))
            await asyncio.sleep(random.uniform(0, 2 * self._workload.pause))
        self._mine.clear()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    async def ask(
        self, op: str, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = (200,)
    ) -> Answer | None:
        """Make a request; None where it may have happened or not. Everything else is checked."""
        record = self._record
        request_id = f"{self._name}-{next(self._numbers)}"
        data = request(method, path, request_id, body)
        while True:
            try:
                connection = await self._connection()
                started = time.monotonic()
                answer = await asyncio.wait_for(connection.ask(data), _PATIENCE)
                break
            except NotSent:
                await asyncio.sleep(0.01)
            except Unanswered:
                record.refuse("unanswered")
                if not self._workload.nodes_die:
                    record.add("not answered, the connection was closed", op=op)
                return None
            except TimeoutError:
                record.refuse("no answer")
                record.add(f"no answer in {_PATIENCE:g} s", op=op)
                connection.cut()
                return None
        took = time.monotonic() - started
        record.slowest = max(record.slowest, took)
        if took > _NO_DEADLINE:
            record.add(f"answered {answer.status} after {took:.1f} s: it has no deadline", op=op)
        elif took > BOUND:
            record.late.append(f"{op}: answered {answer.status} after {took:.2f} s")
        if answer.headers.get("x-request-id") != request_id:
            record.add(f"WRONG: the answer to {answer.headers.get('x-request-id')}", op=op)
            return None
        if answer.status == 503:
            record.refuse("503")
            if "retry-after" not in answer.headers:
                record.add(f"503 without Retry-After: {answer.body}", op=op)
            return None
        record.statuses[str(answer.status)] += 1
        record.served += 1
        if answer.status not in allowed and answer.status not in (404, 410):
            record.add(f"answered {answer.status}: {answer.body}", op=op)
            return None
        return answer

    async def _connection(self) -> Connection:
        ports = self._workload.fleet.ports
        for port in [port for port in self._connections if port not in ports]:
            self._connections.pop(port).close()
        if not ports:
            raise NotSent
        port = random.choice(ports)
        connection = self._connections.get(port)
        if connection is None or not connection.is_open:
            connection = self._connections[port] = await Connection.to(port)
        return connection

    # What a client does.

    async def _create(self) -> None:
        user, brief = new_uuid(), random.random() < 0.3
        auto = not brief and random.random() < 0.5
        minutes = _BRIEF_MINUTES if brief else random.choice((30, 60, 90))
        body = {
            "userId": user,
            "agentId": new_uuid(),
            "timeoutConfig": {
                "timeoutMinutes": minutes,
                "autoRenew": auto,
                "warningThresholdMinutes": _BRIEF_MINUTES,
            },
        }
        answer = await self.ask("create", "POST", SESSIONS, body, (201,))
        if answer is None:
            return
        if answer.status != 201 or answer.body["userId"] != user:
            self._record.add(f"WRONG: {answer.status} {answer.body}", op="create")
            return
        expires_at = datetime.fromisoformat(answer.body["expiresAt"]).timestamp() * 1000
        session = Session(answer.body["sessionId"], user, auto, minutes, expires_at, brief)
        self._mine.append(session)
        self._workload.sessions.append(session)

    async def _talk(self) -> None:
        session = self._any()
        if len(session.messages) + len(session.maybe_messages) > 80:
            return await self._end()
        content = f"{session.id} {self._name} {uuid4()}"
        answer = await self._change_something(
            session, "talk", "POST", "/messages", {"content": content}, 201, session.auto_renew
        )
        if answer is None:
            session.maybe_messages.add(content)
        elif answer.status == 201:
            session.messages.append(content)
            if answer.body["content"] != content:
                self._record.add(f"WRONG: {answer.body['content']}", session, "talk")
        return None

    async def _beat(self) -> None:
        session = self._any()
        answer = await self._change_something(
            session, "beat", "POST", "/heartbeat", None, 200, session.auto_renew
        )
        self._check_info(session, answer, "beat")

    async def _renew(self) -> None:
        session = self._any()
        answer = await self._change_something(session, "renew", "POST", "/renew", None, 200, True)
        self._check_info(session, answer, "renew")

    async def _change(self) -> None:
        session, minutes = self._any(), random.choice((30, 45, 60, 75, 90))
        answer = await self._change_something(
            session, "change", "PATCH", "/timeout", {"timeoutMinutes": minutes}, 200, False
        )
        if answer is None:
            session.maybe_timeouts.add(minutes)  # now, or later
        elif answer.status == 200:
            if answer.body["timeoutConfig"]["timeoutMinutes"] != minutes:
                self._record.add(f"WRONG: {answer.body['timeoutConfig']}", session, "change")
            session.timeout = minutes
        self._check_info(session, answer, "change")

    async def _end(self) -> None:
        session = self._any()
        self._mine.remove(session)
        answer = await self.ask("end", "DELETE", f"{SESSIONS}/{session.id}")
        if answer is None:
            session.life = "maybe"
        elif answer.status == 200:
            session.life = "ended"
        else:
            self._suspect(session, f"end answered {answer.status}")

    async def _look(self) -> None:
        if random.random() < 0.3:
            return await self._list()
        session = random.choice(self._mine)
        asked_at = time.time() * 1000
        answer = await self.ask("look", "GET", f"{SESSIONS}/{session.id}")
        if answer is None:
            return None
        if session.is_brief:
            self._check_brief(session, answer.status, asked_at)
        elif answer.status != 200:
            self._suspect(session, f"look answered {answer.status}")
        else:
            self._check_info(session, answer, "look")
        return None

    async def _outlive(self) -> None:
        """Ask for a session just after its deadline: it is over, cannot be ended, and stays so."""
        brief = [session for session in self._mine if session.is_brief]
        if not brief:
            return
        session = min(brief, key=lambda each: each.expires_at)
        await asyncio.sleep(max(0.0, (session.expires_at + _CLOCKS_MS) / 1000 - time.time()))
        for method, right in (("GET", 410), ("DELETE", 404), ("GET", 410)):
            answer = await self.ask("outlive", method, f"{SESSIONS}/{session.id}")
            if answer is None:
                return
            if answer.status == 200:
                self._record.add(f"WRONG: {method} after its deadline", session, "outlive")
            elif answer.status != right:
                self._suspect(session, f"{method} answered {answer.status} after its deadline")
                return
        session.life = "expired"

    async def _list(self) -> None:
        session = self._any()
        answer = await self.ask("list", "GET", f"{SESSIONS}?userId={session.user}")
        if answer is not None:
            ids = [info["sessionId"] for info in answer.body["sessions"]]
            if ids != [session.id] or answer.body["total"] != 1:
                self._suspect(session, f"listed as {ids}, total {answer.body['total']}")

    async def _read(self) -> None:
        session = self._any()
        answer = await self.ask("read", "GET", f"{SESSIONS}/{session.id}/messages?limit=100")
        if answer is None:
            return
        if answer.status != 200:
            self._suspect(session, f"read answered {answer.status}")
            return
        for problem in session.problems_of_history(answer.body["messages"]):
            self._judge(session, problem, "read")

    def _any(self) -> Session:
        return random.choice([s for s in self._mine if not s.is_brief and s.life == "live"])

    async def _change_something(
        self,
        session: Session,
        op: str,
        method: str,
        path: str,
        body: Any,
        expected: int,
        renews: bool,
    ) -> Answer | None:
        """Ask for a change; counts the renewal that it may bring."""
        answer = await self.ask(op, method, f"{SESSIONS}/{session.id}{path}", body, (expected,))
        if answer is None:
            session.maybe_renewals += renews
        elif answer.status == expected:
            session.renewals += renews
        else:
            self._suspect(session, f"{op} answered {answer.status}")
        return answer

    def _check_info(self, session: Session, answer: Answer | None, op: str) -> None:
        if answer is not None and answer.status == 200:
            for problem in session.problems_of(answer.body):
                self._judge(session, problem, op)

    def _check_brief(self, session: Session, status: int, asked_at: float) -> None:
        """410 is right from the deadline on, and nothing else then."""
        if status == 200 and asked_at > session.expires_at + _CLOCKS_MS:
            self._record.add("WRONG: alive after its deadline", session, "look")
        elif status == 410 and time.time() * 1000 < session.expires_at - _CLOCKS_MS:
            self._suspect(session, "410 before its deadline")
        elif status == 404:
            self._suspect(session, "404 for one that runs out")
        elif status == 410:
            session.life = "expired"

    def _judge(self, session: Session, problem: str, op: str) -> None:
        if problem.startswith("WRONG"):
            self._record.add(problem, session, op)
        else:
            self._suspect(session, f"{op}: {problem}")

    def _suspect(self, session: Session, suspicion: str) -> None:
        """Leave a session alone until it is known whether the answer was false, or it is lost."""
        if session.life != "suspect":
            session.life, session.suspicion = "suspect", suspicion

    # What is compared afterwards.

    async def audit(self, session: Session) -> None:
        """Compare a session with what was acknowledged of it, and end it."""
        path = f"{SESSIONS}/{session.id}"
        found = await self._insist("audit", "GET", path)
        if session.life == "maybe":
            if found.status == 200:
                await self._insist("audit", "DELETE", path)
            return
        if session.is_brief:
            if found.status == 404 or (session.life, found.status) == ("expired", 200):
                self._record.lost.append(f"{session.id}: {session.life}, now {found.status}")
            elif session.life == "suspect":
                self._record.add(f"false answer: {session.suspicion}", session)
            return
        if session.life == "ended":
            if found.status == 200:
                self._record.lost.append(f"{session.id}: its end")
                await self._insist("audit", "DELETE", path)
            return
        if found.status != 200:
            reason = f" ({session.suspicion})" if session.suspicion else ""
            self._record.lost.append(f"{session.id}: {found.status}{reason}")
            return
        history = await self._insist("audit", "GET", f"{path}/messages?limit=100")
        listed = await self._insist("audit", "GET", f"{SESSIONS}?userId={session.user}")
        problems = [*session.problems_of(found.body)]
        problems += session.problems_of_history(history.body["messages"])
        if [info["sessionId"] for info in listed.body["sessions"]] != [session.id]:
            problems.append("lost from the listing")
        for problem in problems:
            if problem.startswith("WRONG"):
                self._record.add(problem, session, "audit")
            else:
                self._record.lost.append(f"{session.id}: {problem}")
        if session.life == "suspect" and not problems:
            self._record.add(f"false answer: {session.suspicion}", session)
        ended = await self._insist("audit", "DELETE", path)
        if ended.status != 200:
            self._record.add(f"DELETE answered {ended.status} for a live session", session)

    async def _insist(self, op: str, method: str, path: str) -> Answer:
        """Ask until there is an answer; there is no fault any more."""
        for _ in range(50):
            with suppress(NotSent):
                answer = await self.ask(op, method, path)
                if answer is not None:
                    return answer
            await asyncio.sleep(0.05)
        raise AssertionError(f"{method} {path} is not answered when all is well again")
