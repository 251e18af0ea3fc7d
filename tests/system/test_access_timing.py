"""A session of somebody else takes no longer to be refused than one that never was."""

import json
import os
import random
import socket
import statistics
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.api import SESSIONS
from tests.support.jwts import AUDIENCE, ISSUER, SECRET, token
from tests.support.processes import ServiceProcess

ANN = "a1111111-1111-4111-8111-111111111111"
BOB = "b2222222-2222-4222-8222-222222222222"
NEIGHBOUR = "a1111111-1111-4111-8111-00000000002e"  # in the shard of BOB
AGENT = "c3333333-3333-4333-8333-333333333333"
REQUESTS = 100_000
KEPT = 2_000  # sessions of each of the others


class Connection:
    """A blocking connection to the service, with a credential."""

    def __init__(self, port: int, credential: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {credential}\r\n"

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, float]:
        """Send a request; return the response, which comes in one piece, and the microseconds."""
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {path}{self._head}{kind}Content-Length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        started = time.perf_counter()
        self._socket.sendall(request)
        answer = self._socket.recv(65_536)
        return answer, (time.perf_counter() - started) * 1e6

    def close(self) -> None:
        self._socket.close()


def create(connection: Connection, user: str) -> list[str]:
    """Create sessions of a user; return their ids."""
    body = json.dumps({"userId": user, "agentId": AGENT}).encode()
    created = [connection.ask("POST", SESSIONS, body)[0] for _ in range(KEPT)]
    assert all(answer.startswith(b"HTTP/1.1 201") for answer in created)
    return [answer.partition(b'"sessionId":"')[2][:36].decode() for answer in created]


def never(like: list[str]) -> list[str]:
    """Return ids in the same shards, of sessions that never were."""
    return [
        str(uuid.UUID(bytes=uuid.UUID(each).bytes[:1] + os.urandom(15), version=4)) for each in like
    ]


@pytest.mark.proof
@pytest.mark.parametrize("operation", ["GET", "DELETE", "POST /heartbeat"])
def test_another_s_session_takes_as_long_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], operation: str
) -> None:
    """The medians over 100,000 interleaved requests are printed, and their ratios."""
    settings = {"JWT_SECRET": SECRET, "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
    with ServiceProcess(tmp_path, **settings, SESSION_MAX_PER_USER="0") as service:
        ids = {}
        for place, user in {"B's shard": NEIGHBOUR, "another shard": ANN}.items():
            connection = Connection(service.port, token(sub=user, exp=int(time.time()) + 3600))
            ids[place, "another's"] = create(connection, user)
            ids[place, "none"] = never(ids[place, "another's"])
            connection.close()
        connection = Connection(service.port, token(sub=BOB, exp=int(time.time()) + 3600))
        method, _, rest = operation.partition(" ")
        took = defaultdict(list)
        kinds = [kind for kind in ids for _ in range(REQUESTS // len(ids))]
        for kind in random.sample(kinds, len(kinds)):
            path = f"{SESSIONS}/{random.choice(ids[kind])}{rest}"
            answer, microseconds = connection.ask(method, path)
            assert answer.startswith(b"HTTP/1.1 404"), answer
            took[kind].append(microseconds)
        connection.close()
    with capsys.disabled():
        for place in ("B's shard", "another shard"):
            theirs, none = (statistics.median(took[place, kind]) for kind in ("another's", "none"))
            sys.stdout.write(
                f"\n{operation}, {place}: another's {theirs:.2f} us, none {none:.2f} us,"
                f" {theirs / none - 1:+.2%}"
            )
        sys.stdout.write("\n")
