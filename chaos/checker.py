"""Check that all keys in the store belong together, after any fault; reads with redis-py."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis

from chaos.stores.base import Store
from session_service.composition import open_store
from session_service.domain.errors import SessionExpired
from session_service.domain.event_types import LAST_TYPES
from session_service.domain.sessions import Session
from session_service.settings import Settings
from session_service.store.records import unpack_session

RETENTION_MINUTES = 10  # of the nodes, too


async def orphans(store: Store) -> list[str]:
    """Sweep, then return a problem for each key or entry that belongs to no live session.

    Every key has a TTL. Each live session has one entry in ``warn`` or ``expire`` and two in
    ``listing``; these have no other entries, and only live sessions have messages. The end or
    expiry of a session is announced once. A session may expire between the reading of two keys, so
    a problem counts only if a second reading has it too.
    """
    settings = Settings(redis_url=store.url, store_timeout=5, retention_minutes=RETENTION_MINUTES)
    async with open_store(settings) as opened:
        while (await opened.deadlines.sweep()).shards_with_more:
            pass
    problems = await _find_problems(store)
    if problems:
        again = await _find_problems(store)
        problems = [problem for problem in problems if problem in again]
    return problems


async def _find_problems(store: Store) -> list[str]:
    return [
        problem
        for master in await store.masters()
        for problem in _problems(await _contents(master.redis))
    ]


async def _contents(redis: Redis) -> dict[str, tuple[int, Any]]:
    """Return all keys of a server with their TTL, and the value if ``_problems`` needs it."""
    keys = [key async for key in redis.scan_iter(count=1000)]
    pipe = redis.pipeline(transaction=False)
    for key in keys:
        pipe.ttl(key)
        kind = key.split(":")[2]
        if kind == "id":
            pipe.get(key)
        elif kind in ("warn", "expire", "forget", "listing"):
            pipe.zrange(key, 0, -1)
        elif kind == "events":
            pipe.xrange(key)
        else:
            pipe.exists(key)
    replies = await pipe.execute()
    return {
        key: (ttl, value)
        for key, ttl, value in zip(keys, replies[::2], replies[1::2], strict=True)
        if ttl != -2  # deleted meanwhile
    }


def _problems(contents: dict[str, tuple[int, Any]]) -> Iterator[str]:
    live: dict[str, Session] = {}
    scheduled: list[str] = []
    listed: list[str] = []
    for key, (ttl, value) in contents.items():
        if ttl == -1:
            yield f"{key} has no TTL"
        _, _, kind, *rest = key.split(":")
        if kind == "id":
            with suppress(SessionExpired):
                live[rest[0]] = unpack_session(rest[0], value.encode())
        elif kind in ("warn", "expire"):
            scheduled += value
        elif kind == "listing":
            listed += value
    for key, (_, value) in contents.items():
        _, _, kind, *rest = key.split(":")
        if kind == "events":
            yield from _announced_twice(value)
        if kind == "msg" and rest[0] not in live:
            yield f"{key} has no session"
    for name in scheduled:
        if name not in live:
            yield f"{name} has a deadline and is no live session"
    for member in listed:
        if member[-36:] not in live:
            yield f"{member} is listed and is no live session"
    for name, session in live.items():
        if scheduled.count(name) != 1:
            yield f"{name} has {scheduled.count(name)} deadlines"
        agent, user = session.agent_id, session.user_id
        for member in (f"u{user}:{agent}:{name}", f"a{agent}:{name}"):
            if member not in listed:
                yield f"{name} is not listed as {member}"


def _announced_twice(entries: list[tuple[str, dict[str, str]]]) -> Iterator[str]:
    """Yield each session whose end or expiry is in the outbox more than once."""
    events = (fields["event"].split(" ", 2) for _, fields in entries)
    over = Counter(session_id for kind, session_id, *_ in events if kind in LAST_TYPES)
    for session_id, times in over.items():
        if times > 1:
            yield f"{session_id} is announced to be over {times} times"
