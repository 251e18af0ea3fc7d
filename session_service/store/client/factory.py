"""Makes the client of redis-py and the executor for the URL of a store (``urls.py``)."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from session_service.metrics.measures import Measures
from session_service.store.client.calls import WriteConcern, command
from session_service.store.client.cluster import ClusterExecutor
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.fake import FakeRedisExecutor
from session_service.store.client.sentinel import SentinelExecutor, SentinelPool
from session_service.store.client.standalone import StandaloneExecutor
from session_service.store.client.urls import read_url

_DISCOVERY_SECONDS = 0.5  # for a node that is asked for the slots of the cluster
_SENTINEL_SECONDS = 0.25  # for a sentinel that is asked for the master


def connect(url: str, timeout: float) -> Any:
    """Make a client of redis-py, Redis or RedisCluster; it does not connect yet.

    ``timeout``, in seconds, bounds a connection attempt and a reply. Retries are off: redis-py
    would make ten, even of a write after its reply was lost.
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
            socket_timeout=min(timeout, _DISCOVERY_SECONDS),
            socket_connect_timeout=min(timeout, _DISCOVERY_SECONDS),
            **options,
        )
    options |= {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if store.kind == "sentinel":
        seconds = min(timeout, _SENTINEL_SECONDS)
        sentinels = Sentinel(
            store.hosts,
            sentinel_kwargs={
                "socket_timeout": seconds,
                "socket_connect_timeout": seconds,
                "retry": Retry(NoBackoff(), 0),
                **store.sentinel,
            },
        )
        return sentinels.master_for(store.service, connection_pool_class=SentinelPool, **options)
    if store.path:
        return Redis(unix_socket_path=store.path, **options)
    ((host, port),) = store.hosts
    return Redis(host=host, port=port, **options)


def open_executor(
    url: str,
    client: Redis | RedisCluster,
    timeout: float,
    write_ack: str = "none",
    measures: Measures | None = None,
) -> ScriptExecutor:
    """Make the executor for the topology that the URL names.

    ``write_ack`` is ``replica`` if a write waits until a replica has it, ``fsync`` if it waits
    until it is on disk, otherwise ``none``. ``measures`` count the calls.
    """
    write_concern = _write_concern(write_ack, timeout)
    if isinstance(client, RedisCluster):
        return ClusterExecutor(client, timeout, write_concern, measures)
    match read_url(url).kind:
        case "memory":
            return FakeRedisExecutor(client, timeout, measures)
        case "sentinel":
            return SentinelExecutor(client, timeout, write_concern, measures)
        case _:
            return StandaloneExecutor(client, timeout, write_concern, measures)


def _write_concern(write_ack: str, timeout: float) -> WriteConcern | None:
    seconds = timeout * 0.8  # well before the call's own deadline
    match write_ack:
        case "replica":
            return WriteConcern(
                lambda ms: command("WAIT", 1, ms),
                lambda replicas: replicas >= 1,
                "written, but no replica acknowledged it in time",
                seconds,
            )
        case "fsync":
            return WriteConcern(
                lambda ms: command("WAITAOF", 1, 0, ms),
                lambda synced: synced[0] >= 1,
                "written, but not on disk in time",
                seconds,
            )
        case _:
            return None
