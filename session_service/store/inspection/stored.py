"""Reads any key for a person: its type, its TTL, and its first entries. Changes nothing."""

from typing import Any, NamedTuple


class StoredKey(NamedTuple):
    """A key as the store has it.

    ``entries`` is the value of a string in a list; the newest entries of a list or a stream, the
    newest first; the first members of a sorted set with their scores; or some fields of a hash.
    Streams have their ids and fields as redis-py returns them.
    """

    type: str  # as TYPE names it
    ttl_ms: int | None  # None: it has no TTL
    size: int  # bytes of a string, otherwise entries
    entries: list[Any]


async def read_key(client: Any, name: str, limit: int) -> StoredKey | None:
    """Read a key with redis-py's client for any topology; return None if it does not exist.

    At most about ``limit`` entries are read: a small hash comes as a whole. Raises errors of
    redis-py.
    """
    kind = (await client.type(name)).decode()
    ttl = await client.pttl(name)
    if ttl == -2:  # it does not exist, or not any longer
        return None
    size, entries = await _read(client, kind, name, limit)
    return StoredKey(kind, ttl if ttl >= 0 else None, size, entries)


async def _read(client: Any, kind: str, name: str, limit: int) -> tuple[int, list[Any]]:
    match kind:
        case "string":
            value = await client.get(name) or b""
            return len(value), [value]
        case "list":
            entries = await client.lrange(name, -limit, -1)
            return await client.llen(name), entries[::-1]
        case "zset":
            entries = await client.zrange(name, 0, limit - 1, withscores=True)
            return await client.zcard(name), entries
        case "stream":
            return await client.xlen(name), await client.xrevrange(name, count=limit)
        case "hash":
            return await client.hlen(name), await _fields(client, name, limit)
        case "set":
            return await client.scard(name), (await client.sscan(name, count=limit))[1]
        case _:
            return 0, []


async def _fields(client: Any, name: str, limit: int) -> list[tuple[bytes, bytes]]:
    fields: dict[bytes, bytes] = {}
    cursor = 0
    while len(fields) < limit:
        cursor, page = await client.hscan(name, cursor, count=limit)
        fields |= page
        if cursor == 0:
            break
    return sorted(fields.items())[:limit]
