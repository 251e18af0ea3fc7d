"""The servers side by side, and one run of the load on one of them at a time."""

import random
import sys
import uuid
from collections import defaultdict
from contextlib import ExitStack
from typing import NamedTuple

from redis import Redis

from benchmarks.load import (
    ONE,
    SESSIONS,
    Connection,
    Load,
    Measurement,
    create_sessions,
    measure,
    new_session,
)
from benchmarks.peers import Peer
from benchmarks.processes import Server, service


class Operation(NamedTuple):
    """A request of the contest; "{}" in the path stands for an id."""

    name: str
    method: str
    path: str
    status: str


DELETE = Operation("DELETE", "DELETE", ONE, "200")
GET = Operation("GET", "GET", ONE, "200")
HEARTBEAT = Operation("heartbeat", "POST", f"{ONE}/heartbeat", "200")
CREATE = Operation("create", "POST", SESSIONS, "201")
OPERATIONS = (DELETE, GET, HEARTBEAT, CREATE)

CEILING, SERVICE, NAIVE = "ceiling", "service", "naive"

_FASTEST = 60_000  # requests per second, assumed before a server is measured
_SPARE = 20_000  # sessions that are never ended


class Contest:
    """All servers on one store of ``sessions`` sessions; all suspended but the one measured.

    ``results`` has the measurements by server, operation and connections.
    """

    def __init__(self, stack: ExitStack, store_url: str, peers: list[Peer], sessions: int) -> None:
        self.results: dict[tuple[str, str, int], list[Measurement]] = defaultdict(list)
        self.redis: Redis = stack.enter_context(Redis.from_url(store_url))
        self.service = stack.enter_context(service(store_url))
        self.served = sessions  # requests to the service, roughly
        self.ids = create_sessions(self.service.port, sessions)
        random.shuffle(self.ids)
        self._sessions = sessions
        self._fastest: dict[str, float] = {}  # requests per second, by server
        self._plain_ids: list[str] = []  # of the other servers' sessions
        bodies = self._bodies()
        self._value = bodies[GET]

        def start(name: str, *command: str) -> Server:
            server = stack.enter_context(Server(name, command, NODE_ENV="production"))
            _ = server.port  # it listens now
            server.rest()
            return server

        python = (sys.executable, "-m")
        ceiling = "benchmarks.servers.ceiling"
        self.servers: dict[str, dict[Operation, Server]] = {
            CEILING: {
                o: start(
                    CEILING,
                    *python,
                    ceiling,
                    o.method,
                    o.path.replace("{}", "{id}"),
                    o.status,
                    body,
                )
                for o, body in bodies.items()
            },
            SERVICE: dict.fromkeys(OPERATIONS, self.service),
            NAIVE: dict.fromkeys(
                OPERATIONS,
                start(NAIVE, *python, "benchmarks.servers.naive", store_url, self._value),
            ),
        }
        for peer in peers:
            server = start(peer.name, *peer.at(store_url))
            self.servers[peer.name] = {DELETE: server, GET: server}
        self.service.rest()

    def round(self, number: int, seconds: int) -> None:
        """Measure each operation on each server; the order rotates from round to round."""
        names = list(self.servers)
        names = names[number % len(names) :] + names[: number % len(names)]
        for operation in OPERATIONS:
            for name in names:
                if operation in self.servers[name]:
                    self.run(name, operation, seconds)

    def run(self, name: str, operation: Operation, seconds: int, connections: int = 64) -> None:
        """Measure one operation on one server."""
        load = self._load(name, operation, seconds)
        with self.servers[name][operation].awake() as port:
            result = measure(port, load, seconds=seconds, connections=connections)
        self.results[name, operation.name, connections].append(result)
        self._fastest[name] = max(result.rate, self._fastest.get(name, 0))
        if name == SERVICE:
            self.served += result.requests
        if operation is DELETE and name == SERVICE:
            self.ids += load.lines[result.sent :]
        elif operation is DELETE and name != CEILING:
            self._put_plain(self._plain_ids[: result.sent])

    def rates(self, name: str, operation: Operation, connections: int = 64) -> list[float]:
        """Return requests per second, by round."""
        return [m.rate for m in self.results[name, operation.name, connections]]

    def _load(self, name: str, operation: Operation, seconds: int) -> Load:
        if operation is CREATE:
            lines = [new_session() for _ in range(15_000 * seconds)]
        elif name != SERVICE:
            lines = self._plain(self._enough(name, seconds))
        elif operation is DELETE:
            lines = self._take(self._enough(name, seconds))
        else:
            lines = random.sample(self.ids, min(len(self.ids), 30_000 * seconds))
        return Load(operation.method, operation.path, lines)

    def _enough(self, name: str, seconds: int) -> int:
        """Return more ids than a run can use."""
        return int(1.5 * self._fastest.get(name, _FASTEST)) * seconds + 64

    def _take(self, count: int) -> list[str]:
        """Take ids of the service's sessions that can be ended; create more if few are left."""
        if len(self.ids) < count + _SPARE:
            with self.service.awake() as port:
                more = max(self._sessions - len(self.ids), count)
                self.ids = create_sessions(port, more) + self.ids
                self.served += more
        taken, self.ids = self.ids[-count:], self.ids[:-count]
        return taken

    def _plain(self, count: int) -> list[str]:
        """Return ids of the other servers' sessions, all of them in the store."""
        more = [str(uuid.uuid4()) for _ in range(count - len(self._plain_ids))]
        self._put_plain(more)
        self._plain_ids += more
        return self._plain_ids[:count]

    def _put_plain(self, ids: list[str]) -> None:
        for first in range(0, len(ids), 1000):
            self.redis.mset({f"plain:{i}": self._value for i in ids[first : first + 1000]})

    def _bodies(self) -> dict[Operation, str]:
        """Return the service's responses, which the other servers repeat."""
        bodies = {}
        with Connection(self.service.port) as connection:
            for operation in (GET, HEARTBEAT, DELETE):
                path = operation.path.replace("{}", self.ids[-1])
                bodies[operation] = connection.expect(operation.method, path)[0].decode()
            self.ids.pop()
            bodies[CREATE] = connection.expect("POST", SESSIONS, new_session())[0].decode()
        return bodies
