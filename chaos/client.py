"""A client of the workload: it does one operation after the other and checks every response."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from chaos.fleet import STORE_TIMEOUT, Fleet
from chaos.http import Connection, NotSent, Response, Unanswered, request
from chaos.observations import ExpectedSession, Observations
from tests.support.api import SESSIONS
from tests.support.factories import new_uuid

BOUND = STORE_TIMEOUT + 1  # seconds: a request is answered within the store's timeout and one
_MAX_WAIT = 15.0  # seconds until a client stops waiting for a response
_NO_DEADLINE = BOUND + 2  # seconds; no busy machine adds that much to a deadline
_BRIEF_MINUTES = 0.8 / 60  # the timeout of sessions that are to expire
_CLOCK_MS = 100  # between the service's decision and the moment at which we read the response

# How often each operation is chosen, of 22.
_WEIGHTS = {
    "create": 2,
    "send": 5,
    "heartbeat": 2,
    "renew": 2,
    "change_timeout": 2,
    "end": 2,
    "get": 3,
    "read": 2,
    "outlive": 2,
}


class Client:
    """One client, with a connection to each node and sessions of its own."""

    def __init__(
        self,
        fleet: Fleet,
        observations: Observations,
        number: int,
        *,
        sessions: list[ExpectedSession],
        nodes_die: bool,
    ) -> None:
        self._fleet = fleet
        self._observations = observations
        self._name = f"c{number}"
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._sessions = sessions  # of all clients, for the audit
        self._nodes_die = nodes_die
        self._own: list[ExpectedSession] = []
        self._operations: dict[str, Callable[[], Awaitable[None]]] = {
            "create": self._create,
            "send": self._send,
            "heartbeat": self._heartbeat,
            "renew": self._renew,
            "change_timeout": self._change_timeout,
            "end": self._end,
            "get": self._get_or_list,
            "read": self._read,
            "outlive": self._outlive,
        }

    async def work(self, stop: asyncio.Event, pause: float) -> None:
        """Do one operation after the other, with a random pause of ``pause`` seconds on average."""
        names, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        while not stop.is_set():
            self._own = [session for session in self._own if session.state == "live"]
            live = sum(not session.is_brief for session in self._own)
            (name,) = random.choices(names, weights) if live else ("create",)
            if name == "create" and live > 5:
                name = "end"
            before = self._observations.last_refusal
            await self._operations[name]()
            if self._observations.last_refusal != before:
                await asyncio.sleep(random.uniform(0.01, 0.05))
            await asyncio.sleep(random.uniform(0, 2 * pause))
        self._own.clear()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    async def fetch(
        self,
        operation: str,
        method: str,
        path: str,
        body: Any = None,
        allowed: tuple[int, ...] = (200,),
    ) -> Response | None:
        """Make a request; return None if it may have happened or not.

        Checks every response: in time, for this request, with an allowed status.
        """
        observations = self._observations
        request_id = f"{self._name}-{next(self._numbers)}"
        data = request(method, path, request_id, body)
        while True:
            try:
                connection = await self._connection()
                started = time.monotonic()
                response = await asyncio.wait_for(connection.fetch(data), _MAX_WAIT)
                break
            except NotSent:
                await asyncio.sleep(0.01)
            except Unanswered:
                observations.add_refusal("unanswered")
                if not self._nodes_die:
                    problem = "not answered, the connection was closed"
                    observations.add_violation(problem, operation=operation)
                return None
            except TimeoutError:
                observations.add_refusal("no answer")
                observations.add_violation(f"no answer in {_MAX_WAIT:g} s", operation=operation)
                connection.reset()
                return None
        took = time.monotonic() - started
        observations.slowest = max(observations.slowest, took)
        if took > _NO_DEADLINE:
            problem = f"answered {response.status} after {took:.1f} s: it has no deadline"
            observations.add_violation(problem, operation=operation)
        elif took > BOUND:
            observations.late.append(f"{operation}: answered {response.status} after {took:.2f} s")
        if response.headers.get("x-request-id") != request_id:
            problem = f"WRONG: the answer to {response.headers.get('x-request-id')}"
            observations.add_violation(problem, operation=operation)
            return None
        if response.status == 503:
            observations.add_refusal("503")
            if "retry-after" not in response.headers:
                problem = f"503 without Retry-After: {response.body}"
                observations.add_violation(problem, operation=operation)
            return None
        observations.statuses[str(response.status)] += 1
        observations.served += 1
        if response.status not in allowed and response.status not in (404, 410):
            problem = f"answered {response.status}: {response.body}"
            observations.add_violation(problem, operation=operation)
            return None
        return response

    async def _connection(self) -> Connection:
        ports = self._fleet.ports
        for port in [port for port in self._connections if port not in ports]:
            self._connections.pop(port).close()
        if not ports:
            raise NotSent
        port = random.choice(ports)
        connection = self._connections.get(port)
        if connection is None or not connection.is_open:
            connection = self._connections[port] = await Connection.to(port)
        return connection

    async def _create(self) -> None:
        user, is_brief = new_uuid(), random.random() < 0.3
        auto_renew = not is_brief and random.random() < 0.5
        minutes = _BRIEF_MINUTES if is_brief else random.choice((30, 60, 90))
        body = {
            "userId": user,
            "agentId": new_uuid(),
            "timeoutConfig": {
                "timeoutMinutes": minutes,
                "autoRenew": auto_renew,
                "warningThresholdMinutes": _BRIEF_MINUTES,
            },
        }
        response = await self.fetch("create", "POST", SESSIONS, body, (201,))
        if response is None:
            return
        if response.status != 201 or response.body["userId"] != user:
            problem = f"WRONG: {response.status} {response.body}"
            self._observations.add_violation(problem, operation="create")
            return
        expires_at = datetime.fromisoformat(response.body["expiresAt"]).timestamp() * 1000
        session = ExpectedSession(
            response.body["sessionId"], user, auto_renew, minutes, expires_at, is_brief
        )
        self._own.append(session)
        self._sessions.append(session)

    async def _send(self) -> None:
        session = self._choose()
        if len(session.messages) + len(session.maybe_messages) > 80:
            return await self._end()
        content = f"{session.id} {self._name} {new_uuid()}"
        response = await self._change(
            session, "send", "POST", "/messages", {"content": content}, 201, session.auto_renew
        )
        if response is None:
            session.maybe_messages.add(content)
        elif response.status == 201:
            session.messages.append(content)
            if response.body["content"] != content:
                problem = f"WRONG: {response.body['content']}"
                self._observations.add_violation(problem, session, "send")
        return None

    async def _heartbeat(self) -> None:
        session = self._choose()
        response = await self._change(
            session, "heartbeat", "POST", "/heartbeat", None, 200, session.auto_renew
        )
        self._check_info(session, response, "heartbeat")

    async def _renew(self) -> None:
        session = self._choose()
        response = await self._change(session, "renew", "POST", "/renew", None, 200, True)
        self._check_info(session, response, "renew")

    async def _change_timeout(self) -> None:
        session, minutes = self._choose(), random.choice((30, 45, 60, 75, 90))
        response = await self._change(
            session, "change_timeout", "PATCH", "/timeout", {"timeoutMinutes": minutes}, 200, False
        )
        if response is None:
            session.maybe_timeouts.add(minutes)
        elif response.status == 200:
            if response.body["timeoutConfig"]["timeoutMinutes"] != minutes:
                problem = f"WRONG: {response.body['timeoutConfig']}"
                self._observations.add_violation(problem, session, "change_timeout")
            session.timeout = minutes
        self._check_info(session, response, "change_timeout")

    async def _end(self) -> None:
        session = self._choose()
        self._own.remove(session)
        response = await self.fetch("end", "DELETE", f"{SESSIONS}/{session.id}")
        if response is None:
            session.state = "maybe ended"
        elif response.status == 200:
            session.state = "ended"
        else:
            session.suspect(f"end answered {response.status}")

    async def _get_or_list(self) -> None:
        if random.random() < 0.3:
            return await self._list()
        session = random.choice(self._own)
        sent_at = time.time() * 1000
        response = await self.fetch("get", "GET", f"{SESSIONS}/{session.id}")
        if response is None:
            return None
        if session.is_brief:
            self._check_brief(session, response.status, sent_at)
        elif response.status != 200:
            session.suspect(f"get answered {response.status}")
        else:
            self._check_info(session, response, "get")
        return None

    async def _outlive(self) -> None:
        """Ask for a session just after its deadline: it is expired, and cannot be ended."""
        brief = [session for session in self._own if session.is_brief]
        if not brief:
            return
        session = min(brief, key=lambda each: each.expires_at)
        await asyncio.sleep(max(0.0, (session.expires_at + _CLOCK_MS) / 1000 - time.time()))
        for method, expected in (("GET", 410), ("DELETE", 404), ("GET", 410)):
            response = await self.fetch("outlive", method, f"{SESSIONS}/{session.id}")
            if response is None:
                return
            if response.status == 200:
                problem = f"WRONG: {method} after its deadline"
                self._observations.add_violation(problem, session, "outlive")
            elif response.status != expected:
                session.suspect(f"{method} answered {response.status} after its deadline")
                return
        session.state = "expired"

    async def _list(self) -> None:
        session = self._choose()
        response = await self.fetch("list", "GET", f"{SESSIONS}?userId={session.user}")
        if response is not None:
            ids = [info["sessionId"] for info in response.body["sessions"]]
            if ids != [session.id] or response.body["total"] != 1:
                session.suspect(f"listed as {ids}, total {response.body['total']}")

    async def _read(self) -> None:
        session = self._choose()
        response = await self.fetch("read", "GET", f"{SESSIONS}/{session.id}/messages?limit=100")
        if response is None:
            return
        if response.status != 200:
            session.suspect(f"read answered {response.status}")
            return
        for problem in session.history_problems(response.body["messages"]):
            self._observations.add_problem(problem, session, "read")

    def _choose(self) -> ExpectedSession:
        """Choose a live session that is not left to expire."""
        return random.choice([s for s in self._own if not s.is_brief and s.state == "live"])

    async def _change(
        self,
        session: ExpectedSession,
        operation: str,
        method: str,
        path: str,
        body: Any,
        expected: int,
        renews: bool,
    ) -> Response | None:
        """Make a request that changes a session; count the renewal that it may cause."""
        url = f"{SESSIONS}/{session.id}{path}"
        response = await self.fetch(operation, method, url, body, (expected,))
        if response is None:
            session.maybe_renewals += renews
        elif response.status == expected:
            session.renewals += renews
        else:
            session.suspect(f"{operation} answered {response.status}")
        return response

    def _check_info(
        self, session: ExpectedSession, response: Response | None, operation: str
    ) -> None:
        if response is not None and response.status == 200:
            for problem in session.info_problems(response.body):
                self._observations.add_problem(problem, session, operation)

    def _check_brief(self, session: ExpectedSession, status: int, sent_at: float) -> None:
        """Check the response for a session that is left to expire: 410 from its deadline on."""
        if status == 200 and sent_at > session.expires_at + _CLOCK_MS:
            self._observations.add_violation("WRONG: alive after its deadline", session, "get")
        elif status == 410 and time.time() * 1000 < session.expires_at - _CLOCK_MS:
            session.suspect("410 before its deadline")
        elif status == 404:
            session.suspect("404 for one that runs out")
        elif status == 410:
            session.state = "expired"
