"""From a URL to a client: the only module that knows which kind of server it is."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from session_service.store.pipeline import Batches, Pipeline
from session_service.store.wire import Wire

SCHEMES = ("redis", "rediss", "unix", "memory")


def connect(url: str, timeout: float) -> Redis:
    """Make a client for ``redis://``, ``rediss://``, ``unix://`` or ``memory://``.

    Nothing is sent yet. ``timeout``, in seconds, bounds a connection attempt and a reply. redis-py
    would try again by itself, ten times, even a write whose reply was lost: it is told not to.
    """
    if urlsplit(url).scheme == "memory":
        from fakeredis import FakeAsyncRedis  # noqa: PLC0415 - an extra, for tests

        return FakeAsyncRedis()
    return Redis.from_url(
        url,
        protocol=2,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        client_name="session-service",
    )


def pipeline(url: str, client: Redis, timeout: float) -> Pipeline:
    """Choose the pipeline for what is behind the URL."""
    kind = Batches if urlsplit(url).scheme == "memory" else Wire
    return kind(client, timeout)
