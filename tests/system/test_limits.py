"""The limits on requests hold over three nodes, of which one is killed."""

import asyncio
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import jwt
import pytest

from chaos.stores.cluster import cluster_group
from session_service.composition import open_store
from session_service.domain.errors import RateLimited, SessionNotFound
from session_service.domain.ids import SHARDS, new_id
from session_service.domain.rates import RateLimit
from session_service.domain.sessions import Session
from session_service.rate_settings import RateSettings
from session_service.store.sessions.scope import Scope
from tests.support.access import user
from tests.support.api import SESSIONS
from tests.support.factories import ID, create_session, store_settings
from tests.support.processes import ServiceProcess, Start

SIGNED_WITH = "one of the tests, long enough for HS256"
ANY_KEY = "one-of-the-tests-with-all-scopes-and-43-letters"
USER = "b2222222-2222-4222-8222-222222222222"
CONNECTIONS = 8  # to each node


class Load:
    """Requests to some nodes on several connections, until it is stopped; counts the answers."""

    def __init__(self, nodes: list[ServiceProcess], credential: str, pause: float) -> None:
        self.admitted = 0
        self.refused = 0
        self.began = self.ended = time.monotonic()
        self._request = (
            f"GET {SESSIONS}/{ID} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {credential}\r\n\r\n"
        ).encode()
        self._pause = pause
        self._is_over = False
        self._tasks = [
            asyncio.create_task(self._send(node.port)) for node in nodes for _ in range(CONNECTIONS)
        ]

    async def stop(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)
        self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    async def _send(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the node that is killed
            while not self._is_over:
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.partition(b"\r\nContent-Length: ")
                await reader.readexactly(int(length.partition(b"\r\n")[0]))
                self._count(int(head[9:12]))
                await asyncio.sleep(self._pause)
        writer.close()

    def _count(self, status: int) -> None:
        assert status in (404, 429), status
        if status == 404:
            self.admitted += 1
        else:
            self.refused += 1


def most(limit: RateLimit, seconds: float) -> int:
    """Return how many requests may be admitted in a time: the burst, and those that come back."""
    return limit.requests + math.ceil(limit.requests / limit.seconds * seconds)


def user_token() -> str:
    claims = {"sub": USER, "iss": "tests", "aud": "tests", "exp": int(time.time()) + 3600}
    token: str = jwt.encode(claims, SIGNED_WITH, "HS256")
    return token


async def overload(
    start: Start, store_url: str, *, key: RateLimit, user: RateLimit, seconds: float
) -> dict[str, tuple[Load, RateLimit]]:
    """Send more than a key and a user may to three nodes, and kill one of these in the middle."""
    settings: Mapping[str, str] = {
        "REDIS_URL": store_url,
        "ELIZA_SERVER_AUTH_TOKEN": ANY_KEY,
        "JWT_SECRET": SIGNED_WITH,
        "JWT_ISSUER": "tests",
        "JWT_AUDIENCE": "tests",
        "RATE_LIMIT_KEY": str(key),
        "RATE_LIMIT_USER": str(user),
    }
    nodes = [start(**settings) for _ in range(3)]
    for node in nodes:
        assert node.port
    loads = {
        "key": (Load(nodes, ANY_KEY, 0.001), key),
        "user": (Load(nodes, user_token(), 0.1), user),
    }
    await asyncio.sleep(seconds / 2)
    nodes[0].kill()
    await asyncio.sleep(seconds / 2)
    for load, _ in loads.values():
        await load.stop()
    return loads


async def test_three_nodes_have_one_limit(start: Start, store_url: str) -> None:
    """Three nodes admit no more than one would, 2 % more at most with one killed."""
    loads = await overload(
        start, store_url, key=RateLimit(200, 1), user=RateLimit(10, 1), seconds=3
    )
    for load, limit in loads.values():
        assert load.refused
        assert limit.requests < load.admitted <= most(limit, load.seconds) * 1.02


@pytest.mark.proof
@pytest.mark.timeout(120)
async def test_three_nodes_have_one_limit_for_a_minute(start: Start, store_url: str) -> None:
    """With 1,000 requests a second for a key and 10 for a user, over 60 s."""
    loads = await overload(
        start, store_url, key=RateLimit(1000, 1), user=RateLimit(10, 1), seconds=60
    )
    for name, (load, limit) in loads.items():
        allowed = most(limit, load.seconds)
        print(  # noqa: T201 - the numbers are the result
            f"{name}: {limit} for {load.seconds:.2f} s: admitted {load.admitted:,} of"
            f" {allowed:,} ({load.admitted / allowed:.2%}), refused {load.refused:,}"
        )
        assert load.refused
        assert load.admitted <= allowed * 1.02


async def test_a_cluster_has_one_limit(tmp_path: Path) -> None:
    """In a cluster a user's limit counts requests for sessions of any shard, and a key has its."""
    limit = RateLimit(20, 3600)
    async with cluster_group(tmp_path) as group:
        settings = store_settings(group.url, rates=RateSettings(user=limit, key=limit))
        async with open_store(settings) as store:
            assert store.user_limit
            assert store.key_limit
            own = await create_session(store.repository, user_id=USER)
            statuses: list[type] = []
            for n in range(limit.requests + 5):
                charge = store.user_limit.charging(store.executor, USER)
                scope = Scope(charge, credential=user(USER))
                session_id = new_id(SHARDS[10 * n], os.urandom) if n % 2 else own.id
                try:
                    await store.repository.scoped(scope).get(session_id)
                except (SessionNotFound, RateLimited) as error:
                    statuses.append(type(error))
                else:
                    statuses.append(Session)
            assert statuses[: limit.requests] == [Session, SessionNotFound] * 10
            assert statuses[limit.requests :] == [RateLimited] * 5
            for n in range(limit.requests + 5):
                standing = await store.key_limit.charge("7Hq2")
                assert standing
                assert standing.is_granted == (n < limit.requests)
