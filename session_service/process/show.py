"""``session-service show``: prints a key of the store, decoded, and changes nothing."""

import asyncio
import sys
from collections.abc import Iterator
from datetime import timedelta

from redis.exceptions import RedisClusterException, RedisError

from session_service.domain.ids import is_uuid
from session_service.output import print_json, printable
from session_service.process.reach import UnreachableStoreError, store_url
from session_service.settings import Settings
from session_service.store.client.factory import connect, open_executor
from session_service.store.inspection.decoding import decode
from session_service.store.inspection.stored import StoredKey, read_key
from session_service.store.keys import KINDS, KeyName, Keys


def run(settings: Settings, *, key: str, limit: int, as_json: bool) -> int:
    """Print a key; return the exit code: 1 if it does not exist, or the store cannot be read.

    ``key`` is a name as redis-cli shows it, or the id of a session.
    """
    try:
        url = store_url(settings)
    except UnreachableStoreError as error:
        return _fail(str(error))
    keys = Keys(settings.key_prefix)
    name = keys.session_name(key.lower()) if is_uuid(key) else key.strip('"')
    try:
        stored = asyncio.run(_read(settings, url, name, limit))
    except (RedisError, RedisClusterException, OSError) as error:
        return _fail(f"the store cannot be read: {error}")
    if stored is None:
        return _fail(f"{name} does not exist")
    if as_json:
        print_json(_described(name, keys.parse(name), stored))
        return 0
    for line in describe(name, keys.parse(name), stored):
        sys.stdout.write(f"{printable(line)}\n")
    return 0


def describe(name: str, key: KeyName | None, stored: StoredKey) -> Iterator[str]:
    """Yield the lines about a key: its name, its kind, its type, size and TTL, and its entries."""
    kind = KINDS[key.kind] if key else None
    yield name
    yield kind.description if kind else "not a key of this service, by its name"
    if kind and kind.type not in ("any", stored.type):
        yield f"damaged: it should be a {kind.type}, so another program has written it"
    one, several = ("byte", "bytes") if stored.type == "string" else ("entry", "entries")
    size = f"{stored.size:,} {one if stored.size == 1 else several}"
    if stored.type != "string" and len(stored.entries) < stored.size:
        size += f", {len(stored.entries)} of them below"
    ttl = stored.ttl_ms
    lives = "without a TTL" if ttl is None else f"for another {timedelta(seconds=ttl // 1000)}"
    yield f"{stored.type}, {size}, {lives}"
    yield ""
    yield from decode(key, stored)


async def _read(settings: Settings, url: str, name: str, limit: int) -> StoredKey | None:
    client = connect(url, settings.store_timeout)
    # Closing the executor closes the clients of the topology, too, e.g. those of the sentinels.
    executor = open_executor(url, client, settings.store_timeout)
    try:
        return await read_key(client, name, limit)
    finally:
        await executor.close()


def _described(name: str, key: KeyName | None, stored: StoredKey) -> dict[str, object]:
    """Return the facts of ``describe`` for JSON; ``lines`` are the decoded value or entries."""
    kind = KINDS[key.kind] if key else None
    return {
        "key": name,
        "kind": kind.description if kind else None,
        "isDamaged": kind is not None and kind.type not in ("any", stored.type),
        "type": stored.type,
        "size": stored.size,
        "ttlMs": stored.ttl_ms,
        "lines": list(decode(key, stored)),
    }


def _fail(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1
