"""Stores that evict keys, or deny commands to the service's user."""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from chaos.fleet import fleet
from chaos.stores.base import single_server
from chaos.stores.server import StoreServer
from chaos.trials import Row, Tally, arena, now
from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.waiting import wait_until

POLICIES = (
    *(f"volatile-{kind}" for kind in ("lru", "lfu", "ttl", "random")),
    *(f"allkeys-{kind}" for kind in ("lru", "lfu", "random")),
)
COMMANDS = ("time", "get", "set", "xadd", "xrange", "zadd", "zrem", "unlink", "evalsha")

_MIB = 4  # maxmemory: a few hundred sessions with metadata
_SESSIONS = 600
_DEGRADED_SECONDS = 5.0
_DENIED_SECONDS = 0.8  # for which a command is denied


async def evicted(repeats: int) -> Row:
    """Fill the store until it evicts, with one ``maxmemory-policy`` after the other."""
    problems: list[str] = []
    late: list[str] = []
    lost = created = 0
    noticed: list[float] = []
    for _, policy in zip(range(repeats), cycle(POLICIES), strict=False):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            async with AsyncExitStack() as stack:
                settings = (f"maxmemory {_MIB}mb", f"maxmemory-policy {policy}")
                store = StoreServer(Path(folder) / "server", *settings)
                stack.push_async_callback(store.close)
                await store.start()
                url = f"redis://{store.address}/0"
                nodes = await stack.enter_async_context(fleet(Path(folder) / "nodes", url))
                client = await stack.enter_async_context(nodes.nodes[0].client())
                ids = [await _create(client) for _ in range(_SESSIONS)]
                took = await _until_degraded(client)
                noticed.append(took)
                missing = [each for each in ids if await _status(client, each) == 404]
                events = [str(line["event"]) for line in nodes.nodes[0].log]
        created, lost = created + len(ids), lost + len(missing)
        if took > _DEGRADED_SECONDS:
            late.append(f"{policy}: degraded after {took:.1f} s")
        if not any(f"maxmemory-policy is {policy}" in event for event in events):
            problems.append(f"{policy}: no warning at the start")
        if sum("the store evicts keys" in event for event in events) != 1:
            problems.append(f"{policy}: evictions are not logged in one line")
        if not missing:
            problems.append(f"{policy}: nothing was evicted, so nothing is shown")
    return Row(
        "an evicting store, under each `maxmemory-policy` except `noeviction`",
        repeats,
        f"{lost:,} of {created:,} sessions evicted; degraded after {max(noticed):.1f} s at most",
        "a warning at the start, `degraded` within 5 s, one log line",
        problems,
        late=late,
    )


async def _create(client: ClientSession) -> str:
    body = session_body(metadata={"a": "x" * 9_000})
    async with client.post(SESSIONS, json=body) as response:
        assert response.status == 201, await response.text()
        return str((await response.json())["sessionId"])


async def _status(client: ClientSession, session_id: str) -> int:
    async with client.get(f"{SESSIONS}/{session_id}") as response:
        return response.status


async def _until_degraded(client: ClientSession) -> float:
    """Wait until health is degraded because of evictions; return the seconds that took."""
    since = time.monotonic()

    async def is_degraded() -> bool:
        async with client.get(f"{SESSIONS}/health") as response:
            health: dict[str, Any] = await response.json()
        return health["status"] == "degraded" and "evicted" in " ".join(health["reasons"])

    await wait_until(is_degraded, 30, every=0.05)
    return time.monotonic() - since


async def denied(repeats: int) -> Row:
    """Deny the service's user one command after the other for a while, under load."""
    tally = Tally()
    commands = cycle(COMMANDS)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with single_server(Path(folder)) as store, arena(store, clients=8) as a:
            await store.server.command("ACL", "SETUSER", "admin", "on", "nopass", "~*", "+@all")

            async def deny() -> float:
                command = next(commands)
                await _permit(store.server, f"-{command}")
                await asyncio.sleep(_DENIED_SECONDS)
                await _permit(store.server, f"+{command}")
                return now()

            for _ in range(repeats):
                # A script that is stopped halfway leaves entries until they are due.
                await a.repeat(deny, tally, may_leave_orphans=True)
    return tally.row(
        "one command after another denied by ACL for 0.8 s",
        "each answered 503, no process ends, 0 × 500; lost at most the 410 of a session whose"
        " expiry was stopped halfway; recovery ≤ 2 s",
        recovery=2,
        may_lose=True,
    )


async def _permit(server: StoreServer, rule: str) -> None:
    """Change the permissions of the default user, as another user."""
    async with server.redis.client() as connection:
        execute: Any = connection.execute_command
        await execute("AUTH", "admin", "")
        await execute("ACL", "SETUSER", "default", rule)
        await execute("RESET")
