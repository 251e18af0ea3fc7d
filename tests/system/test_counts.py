"""Totals of lists are exact at once, and health within 60 s, after kills, failovers, evictions."""

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from redis import Redis

from chaos.stores.sentinel import sentinel_group
from tests.support.api import SESSIONS, create
from tests.support.factories import new_uuid
from tests.support.processes import Start
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until

HEALTH_SECONDS = 60
AGENTS = [new_uuid() for _ in range(2)]


async def page(client: ClientSession, **query: Any) -> dict[str, Any]:
    async with client.get(SESSIONS, params=query) as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
        return body


async def totals(client: ClientSession) -> list[int]:
    """Return the total of all sessions, and those of the agents."""
    queries: list[dict[str, str]] = [{}, *({"agentId": agent} for agent in AGENTS)]
    return [(await page(client, limit=1, **query))["total"] for query in queries]


async def full_count(client: ClientSession) -> list[int]:
    """Count what ``totals`` returns by walking all pages and a GET of each session."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        found = await page(client, limit=1000, **cursor)
        ids += [session["sessionId"] for session in found["sessions"]]
        if found["nextCursor"] is None:
            break
        cursor = {"cursor": found["nextCursor"]}
    assert len(set(ids)) == len(ids)
    sessions = []
    for session_id in ids:
        async with client.get(f"{SESSIONS}/{session_id}") as response:
            if response.status == 200:
                sessions.append(await response.json())
    by_agent = [sum(each["agentId"] == agent for each in sessions) for agent in AGENTS]
    return [len(sessions), *by_agent]


async def wait_for_health(client: ClientSession, active: int) -> None:
    """Wait until health counts so many sessions."""

    async def counted() -> bool:
        async with client.get(f"{SESSIONS}/health") as response:
            return bool((await response.json()).get("activeSessions") == active)

    await wait_until(counted, HEALTH_SECONDS, every=0.1, description=f"health counts {active}")


async def create_many(client: ClientSession, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Create sessions of the agents in turn."""
    made: list[dict[str, Any]] = []
    while len(made) < count:
        made += await asyncio.gather(
            *(create(client, agentId=AGENTS[n % 2], **fields) for n in range(50))
        )
    return made


async def test_after_kills_of_all_nodes(start: Start, store_url: str) -> None:
    """Sessions that expired while no node ran are in no total, from the first request on."""
    settings = {"REDIS_URL": store_url, "SESSION_MIN_TIMEOUT_MINUTES": "0.01"}
    nodes = [start(**settings) for _ in range(2)]
    async with nodes[0].client() as client:
        await create_many(client, 100)
        brief = {"timeoutMinutes": 0.03, "warningThresholdMinutes": 0.01}
        sessions = await create_many(client, 1000, timeoutConfig=brief)
    for node in nodes:
        node.kill()
    expiry = datetime.fromisoformat(sessions[-1]["expiresAt"]).timestamp()
    await wait_until(lambda: time.time() > expiry, description="all brief sessions have expired")
    async with start(**settings).client() as client:
        assert await totals(client) == [100, 50, 50]
        assert await full_count(client) == [100, 50, 50]
        await wait_for_health(client, 100)


async def test_after_a_failover(start: Start, tmp_path: Path) -> None:
    """Totals of the first response of a new master are those of a full count."""
    async with sentinel_group(tmp_path / "group") as group:
        node = start(REDIS_URL=group.url)
        async with node.client() as client:
            sessions = await create_many(client, 300)
            for session in sessions[::3]:
                await client.delete(f"{SESSIONS}/{session['sessionId']}")
            former = await group.master()
            former.kill()

            async def answers() -> bool:
                async with client.get(SESSIONS, params={"limit": 1}) as response:
                    return response.status == 200 and await group.is_replaced(former)

            await wait_until(answers, 20, every=0.02)
            found = await totals(client)
            assert found == await full_count(client)
            await wait_for_health(client, found[0])


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
async def test_after_evictions(start: Start, policy: str) -> None:
    """Evicted sessions are in no total at once, nor in health within 60 s, on any node."""
    options = ("--maxmemory", "6mb", "--maxmemory-policy", policy)
    with store_server(valkey_binary(), *options) as url, Redis.from_url(url) as redis:
        one, other = start(REDIS_URL=url), start(REDIS_URL=url)
        async with one.client() as client, other.client() as there:
            await create_many(client, 3000, metadata={"a": "x" * 1500})
            redis.config_set("maxmemory", 0)  # or reading would evict more
            assert redis.info("stats")["evicted_keys"] > 1000
            found = await totals(client)
            assert await totals(there) == found == await full_count(client)
            await wait_for_health(client, found[0])
            await wait_for_health(there, found[0])


async def test_health_after_evictions_without_a_list(start: Start) -> None:
    """Health counts what GET finds within 60 s of the last eviction, without any list."""
    options = ("--maxmemory", "6mb", "--maxmemory-policy", "volatile-ttl")  # keeps the indexes
    with store_server(valkey_binary(), *options) as url, Redis.from_url(url) as redis:
        nodes = [start(REDIS_URL=url) for _ in range(2)]
        async with nodes[0].client() as client, nodes[1].client() as there:
            sessions = await create_many(client, 3000, metadata={"a": "x" * 1500})
            redis.config_set("maxmemory", 0)
            left = 0
            for session in sessions:
                async with client.get(f"{SESSIONS}/{session['sessionId']}") as response:
                    left += response.status == 200
            assert left < 2500
            await wait_for_health(client, left)
            await wait_for_health(there, left)
