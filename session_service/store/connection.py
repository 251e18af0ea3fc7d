"""From a URL to a pipeline: the only module that knows which kind of store it is.

``redis://host:port/db``, ``rediss://`` (TLS), ``unix:///path``
    one server
``redis+sentinel://host,host/service/db``, ``rediss+sentinel://``
    the master of a Sentinel group; ``sentinel_username`` and ``sentinel_password`` in the query
``redis+cluster://host,host``, ``rediss+cluster://``
    a Redis Cluster
``memory://``
    fakeredis, for tests

Each host may have a port. Username and password stand before the hosts, options of redis-py such as
``ssl_ca_certs=/path`` in the query.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from session_service.store.batches import Batches
from session_service.store.calls import Acknowledgement, command
from session_service.store.cluster import Cluster
from session_service.store.pipeline import Pipeline
from session_service.store.sentinel import SentinelPool, Watched
from session_service.store.single import Single

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "memory",
)
_PORTS = {"sentinel": 26379, "cluster": 6379}
_LOOK_SECONDS = 0.5  # for a node that is asked for the cluster's slots
_SENTINEL_SECONDS = 0.25  # for a sentinel that is asked for the master


class StoreUrl(NamedTuple):
    """What a URL says."""

    kind: str  # "", sentinel, cluster or memory
    hosts: list[tuple[str, int]]  # of sentinels or of a cluster's nodes
    service: str  # of a Sentinel group
    sentinel: dict[str, Any]  # options for the sentinels
    options: dict[str, Any]  # options for the servers, as redis-py has them


def read_url(url: str) -> StoreUrl:
    """Read a URL; raises ValueError, with what is allowed in its place."""
    try:
        return _read(url)
    except _NotAllowedError:
        raise
    except ValueError:
        raise ValueError("a URL with hosts, ports and options that can be read") from None


class _NotAllowedError(ValueError):
    """What is allowed instead."""


def _read(url: str) -> StoreUrl:
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    login, _, hosts = authority.rpartition("@")
    # Only one host is a URL's, and urlsplit may refuse more.
    parts = urlsplit(url.replace(hosts, hosts.split(",")[0], 1) if hosts else url)
    if parts.scheme not in SCHEMES:
        raise _NotAllowedError(f"a URL of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if parts.scheme == "memory":
        return StoreUrl("memory", [], "", {}, {})
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        if not (parts.path if scheme == "unix" else parts.hostname):
            raise _NotAllowedError(f"{scheme}:// with a {'path' if scheme == 'unix' else 'host'}")
        return StoreUrl("", [], "", {}, dict(parse_url(url)))

    found = [_host_and_port(host, _PORTS[kind]) for host in hosts.split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    if kind == "sentinel" and not service:
        raise _NotAllowedError(f"{parts.scheme}://host,host/service/db")
    if kind == "cluster" and service:
        raise _NotAllowedError(
            f"{parts.scheme}://host,host without a path: a cluster has one database"
        )
    query: dict[str, Any] = dict(parse_qsl(parts.query))
    sentinel = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    options = dict(parse_url(f"{scheme}://{login}{'@' * bool(login)}host/{db}?{urlencode(query)}"))
    del options["host"]
    if scheme == "rediss":
        del options["connection_class"]
        options["ssl"] = True
        sentinel |= {name: value for name, value in options.items() if name.startswith("ssl")}
    return StoreUrl(kind, found, service, sentinel, options)


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise _NotAllowedError("hosts parted by commas, each with or without a port")
    return parts.hostname, parts.port or port


def connect(url: str, timeout: float) -> Any:
    """Make a client of redis-py, Redis or RedisCluster; nothing is sent yet.

    ``timeout``, in seconds, bounds a connection attempt and a reply. redis-py would try again by
    itself, ten times, even a write whose reply was lost: it is told not to.
    """
    store = read_url(url)
    if store.kind == "memory":
        from fakeredis import FakeAsyncRedis  # noqa: PLC0415 - an extra, for tests

        return FakeAsyncRedis()
    options: dict[str, Any] = {
        "protocol": 2,
        "client_name": "session-service",
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        **store.options,
    }
    if store.kind == "cluster":
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in store.hosts],
            socket_timeout=min(timeout, _LOOK_SECONDS),
            socket_connect_timeout=min(timeout, _LOOK_SECONDS),
            **options,
        )
    options |= {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if store.kind == "sentinel":
        look = min(timeout, _SENTINEL_SECONDS)
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            store.hosts,
            sentinel_kwargs={
                "socket_timeout": look,
                "socket_connect_timeout": look,
                "retry": Retry(NoBackoff(), 0),
                **store.sentinel,
            },
        )
        return sentinels.master_for(store.service, connection_pool_class=SentinelPool, **options)
    return Redis.from_url(url, **options)


def pipeline(
    url: str, client: Redis | RedisCluster, timeout: float, acknowledgement: str = "none"
) -> Pipeline:
    """Choose the pipeline for what is behind the URL.

    ``acknowledgement`` is ``replica`` or ``fsync`` where a write is to be safe there before its
    caller has its reply, else ``none``.
    """
    by = _acknowledgement(acknowledgement, timeout)
    if isinstance(client, RedisCluster):
        return Cluster(client, timeout, by)
    match read_url(url).kind:
        case "memory":
            return Batches(client, timeout)
        case "sentinel":
            return Watched(client, timeout, by)
        case _:
            return Single(client, timeout, by)


def _acknowledgement(by: str, timeout: float) -> Acknowledgement | None:
    seconds = timeout * 0.8  # well before the call's own deadline
    match by:
        case "replica":
            return Acknowledgement(
                lambda ms: command("WAIT", 1, ms),
                lambda replicas: replicas >= 1,
                "written, but no replica acknowledged it in time",
                seconds,
            )
        case "fsync":
            return Acknowledgement(
                lambda ms: command("WAITAOF", 1, 0, ms),
                lambda synced: synced[0] >= 1,
                "written, but not on disk in time",
                seconds,
            )
        case _:
            return None
