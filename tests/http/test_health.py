"""GET /sessions/health (contract, "Health")."""

import re
from typing import Any

from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client
from tests.support.factories import shard_key

HEALTH = f"{SESSIONS}/health"


async def test_a_service_in_order_is_healthy(client: Client) -> None:
    """A healthy service has no reasons."""
    async with client.get(HEALTH) as response:
        body = await response.json()
    assert (response.status, body["status"]) == (200, "healthy")
    assert "reasons" not in body


async def test_any_reason_makes_it_degraded(client: Client, service: AppState) -> None:
    """Any reason degrades health; all reasons are listed, and requests still succeed."""
    service.health_reasons += [lambda: ["the store is full"], list, lambda: ["a", "b"]]
    async with client.get(HEALTH) as response:
        body = await response.json()
    assert (response.status, body["status"]) == (200, "degraded")
    assert body["reasons"] == ["the store is full", "a", "b"]


async def test_deadlines_that_are_acted_on_late_are_a_reason(client: Client, redis: Any) -> None:
    """Deadlines that are overdue by more than ten seconds degrade health."""
    seconds, _ = await redis.time()
    await redis.zadd(
        shard_key("expire", "3f"), {"3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836": seconds * 1000 - 25_000}
    )
    await redis.expire(shard_key("expire", "3f"), 60)
    async with client.get(HEALTH) as response:
        body = await response.json()
    assert (response.status, body["status"]) == (200, "degraded")
    (reason,) = body["reasons"]
    assert re.fullmatch(r"deadlines are processed \d+ s late", reason)
