"""What kind of server the store is, and what of it puts sessions at risk."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError, ResponseError

from session_service.domain.errors import StoreUnavailable

_OLDEST = (6, 2)
_WITH_WAITAOF = (7, 2)


class StoreTooOldError(Exception):
    """The server lacks commands that the scripts use; the message is for the operator."""


class Inspection(msgspec.Struct, frozen=True):
    """What was found: the server and its topology, and what to warn about, a line each."""

    server: str
    topology: str
    warnings: list[str]
    acknowledges_fsync: bool  # WAITAOF works on every server: there is an append-only file


async def inspect(client: Redis | RedisCluster) -> Inspection:
    """Ask the store what it is; raises StoreTooOldError, StoreUnavailable."""
    try:
        if isinstance(client, RedisCluster):
            await client.initialize()
            masters = client.get_primaries()
            facts = [await _facts(client, target_nodes=node) for node in masters]
            topology = f"cluster of {len(masters)} masters"
        else:
            facts = [await _facts(client)]
            replicas = facts[0].get("connected_slaves", 0)
            topology = f"one server, {replicas} replicas" if replicas else "one server"
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
    risks = dict.fromkeys(risk for fact in facts for risk in _risks(fact))
    return Inspection(
        _name(facts[0]),
        topology,
        list(risks),
        all(fact.get("aof_enabled") and _version(fact) >= _WITH_WAITAOF for fact in facts),
    )


async def _facts(client: Any, **target: Any) -> dict[str, Any]:
    """Return what one server says of itself; ``save`` is its setting, if it tells that."""
    facts: dict[str, Any] = await client.info(**target)
    with suppress(ResponseError):  # managed services have no CONFIG
        facts |= await client.config_get("save", **target)
    return facts


def _risks(facts: dict[str, Any]) -> Iterator[str]:
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and not policy.startswith("volatile-"):
        yield (
            f"the store's maxmemory-policy is {policy}: it may throw sessions away when it is"
            " full; noeviction refuses new ones instead"
        )
    if not facts.get("aof_enabled") and facts.get("save") == "":
        yield "the store does not write to disk: its restart loses all sessions"


def _name(fact: dict[str, Any]) -> str:
    """Name the server; Valkey tells a Redis version, too, which is what it is compatible with."""
    name = "Valkey" if "valkey_version" in fact else "Redis"
    version = fact.get("valkey_version") or fact.get("redis_version")
    if _version(fact) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise StoreTooOldError(
            f"the store is {name} {version}; it must be Redis {oldest} or later, or Valkey"
        )
    return f"{name} {version}"


def _version(fact: dict[str, Any]) -> tuple[int, ...]:
    """Return the first two numbers of the Redis version, or of the one compatible with."""
    return tuple(map(int, re.findall(r"\d+", str(fact.get("redis_version", "")))[:2]))
