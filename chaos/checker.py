"""Check that all keys in the store belong together, after any fault; reads with redis-py."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from chaos.stores.base import Store
from session_service.composition import open_store
from session_service.domain.errors import SessionExpired
from session_service.domain.event_types import LAST_TYPES
from session_service.domain.ids import is_uuid
from session_service.domain.sessions import Session
from session_service.settings import Settings
from session_service.store.records import ID_LENGTH, listing_member, unpack_id, unpack_session

RETENTION_MINUTES = 10  # of the nodes, too

_AS_BYTES = {NEVER_DECODE: True}  # the client decodes all other replies


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
        kind = _kind(key)
        if kind == "session":
            pipe.execute_command("GET", key, **_AS_BYTES)
        elif kind in ("warn", "expire", "forget", "listing"):
            pipe.execute_command("ZRANGE", key, 0, -1, **_AS_BYTES)
        elif kind == "events":
            pipe.execute_command("XRANGE", key, "-", "+", **_AS_BYTES)
        else:
            pipe.exists(key)
    replies = await pipe.execute()
    return {
        key: (ttl, value)
        for key, ttl, value in zip(keys, replies[::2], replies[1::2], strict=True)
        if ttl != -2  # deleted meanwhile
    }


def _kind(key: str) -> str:
    """Return the part of a name after its shard, e.g. ``warn``, or ``session`` for a record."""
    part = key.split(":")[2]
    return "session" if is_uuid(part) else part


def _problems(contents: dict[str, tuple[int, Any]]) -> Iterator[str]:
    live: dict[str, Session] = {}
    scheduled: list[str] = []
    listed: set[bytes] = set()
    for key, (ttl, value) in contents.items():
        if ttl == -1:
            yield f"{key} has no TTL"
        kind, name = _kind(key), key[-36:]
        if kind == "session":
            with suppress(SessionExpired):
                live[name] = unpack_session(name, value)
        elif kind in ("warn", "expire"):
            scheduled += map(unpack_id, value)
        elif kind == "listing":
            listed.update(value)
    for key, (_, value) in contents.items():
        if _kind(key) == "events":
            yield from _announced_twice(value)
        if _kind(key) == "msg" and key[-36:] not in live:
            yield f"{key} has no session"
    for name in scheduled:
        if name not in live:
            yield f"{name} has a deadline and is no live session"
    for member in listed:
        if unpack_id(member[-ID_LENGTH:]) not in live:
            yield f"{member!r} is listed and is no live session"
    for name, session in live.items():
        if scheduled.count(name) != 1:
            yield f"{name} has {scheduled.count(name)} deadlines"
        for first, owner in ((b"u", "user"), (b"a", "agent")):
            if listing_member(first, session) not in listed:
                yield f"{name} is not listed by its {owner}"


def _announced_twice(entries: list[tuple[str, dict[bytes, bytes]]]) -> Iterator[str]:
    """Yield each session whose end or expiry is in the outbox more than once."""
    events = (fields[b"event"].partition(b" ") for _, fields in entries)
    over = Counter(
        unpack_id(rest[:ID_LENGTH]) for kind, _, rest in events if kind.decode() in LAST_TYPES
    )
    for session_id, times in over.items():
        if times > 1:
            yield f"{session_id} is announced to be over {times} times"
