"""Checks that the servers at a URL are of the kind that its scheme names."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.utils import str_if_bytes

from session_service.store.client.urls import StoreUrl

_SECONDS = 1.0  # for a reply: servers that are down delay the start for so long
_NAMES = {"": "a single server", "sentinel": "a Sentinel", "cluster": "a node of a Redis Cluster"}
_MODES = {"standalone": "", "sentinel": "sentinel", "cluster": "cluster"}  # as INFO names them
_FORMS = {"": "host:port/db", "sentinel": "host,host/service/db", "cluster": "host,host"}


async def wrong_kind(store: StoreUrl) -> str:
    """Return a sentence for the operator if the servers are of another kind than the URL's.

    E.g. ``REDIS_URL is redis://, but a.example:26379 is a Sentinel: use
    redis+sentinel://host,host/service/db``. Returns "" if no server replies within a second, or
    none reveals its kind.
    """
    if store.kind == "memory":
        return ""
    addresses = store.hosts or [("", 0)]
    kinds = await asyncio.gather(*(_kind_of(store, *address) for address in addresses))
    for (host, port), found in zip(addresses, kinds, strict=True):
        if found == store.kind:
            return ""
        if found is not None:
            scheme = ("rediss" if "rediss" in store.scheme else "redis") + f"+{found}" * bool(found)
            return (
                f"REDIS_URL is {store.scheme}://, but {f'{host}:{port}' if host else store.path} is"
                f" {_NAMES[found]}: use {scheme}://{_FORMS[found]}"
            )
    return ""


async def _kind_of(store: StoreUrl, host: str, port: int) -> str | None:
    from_url = store.sentinel if store.kind == "sentinel" else store.options
    options: dict[str, Any] = {name: value for name, value in from_url.items() if name != "db"}
    address = {"host": host, "port": port} if host else {"unix_socket_path": store.path}
    client = Redis(
        **address,
        protocol=2,
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    try:
        with suppress(Exception):  # the server may be of any kind and reply with anything
            async with asyncio.timeout(_SECONDS):
                return await _query_kind(client, store.kind)
        return None
    finally:
        with suppress(RedisError, OSError):
            await client.aclose()


async def _query_kind(client: Any, kind: str) -> str | None:
    """Try a command of the URL's kind before INFO, which can be forbidden or untrue."""
    command = {"sentinel": ("SENTINEL", "MASTERS"), "cluster": ("CLUSTER", "SLOTS")}.get(kind)
    if command is not None:
        try:
            await client.execute_command(*command)
        except NoPermissionError:
            return None
        except ResponseError as error:
            if "unknown command" not in str(error) and "support disabled" not in str(error):
                return None
        else:
            return kind
    facts = await client.info("server")
    mode = str_if_bytes(facts.get("redis_mode") or facts.get("server_mode") or "")
    return _MODES.get(mode)
