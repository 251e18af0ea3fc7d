"""Inspection of the store: when it happens, and what health and the log then say."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from chaos.stores.server import free_port
from session_service.composition import open_store
from session_service.domain.errors import StoreUnavailable
from session_service.store.inspection.monitor import StoreMonitor
from session_service.store.sessions.repository import SessionRepository
from tests.support.clocks import SettableClock, library
from tests.support.factories import create_session, store_settings
from tests.support.servers import store_server, valkey_binary
from tests.support.tools import needs, skip_without
from tests.support.waiting import wait_until

SERVERS = [valkey_binary(), pytest.param("redis-server", marks=needs("redis-server"))]


@pytest.fixture(params=SERVERS, ids=["valkey", "redis"])
def binary(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[tuple[StoreMonitor, SessionRepository]]:
    """Open a store; yield its monitor, after a first inspection, and its sessions."""
    async with open_store(store_settings(url, store_timeout=1)) as store:
        await store.monitor.refresh()
        yield store.monitor, store.repository


async def reasons(monitor: StoreMonitor) -> str:
    """Inspect the store again; return the reasons for degraded health."""
    await monitor.refresh()
    return "; ".join(monitor.reasons())


async def fill(repository: SessionRepository) -> None:
    """Create sessions of 10 KB until the store refuses them, 600 at most: twice what fits."""
    for _ in range(600):
        await create_session(repository, metadata=b'{"a": "%s"}' % (b"x" * 10_000))


@contextmanager
def operator(url: str) -> Iterator[Any]:
    """Connect to a store with all permissions."""
    with Redis.from_url(url, decode_responses=True) as client:
        yield client


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.message for record in caplog.records if text in record.message]


async def test_a_store_in_order_has_no_reason(binary: str) -> None:
    """A store in order has a known server, topology, policy and persistence, and no warning."""
    with store_server(binary, "--appendonly", "yes") as url:
        async with watched(url) as (monitor, _):
            found = monitor.latest
            assert found is not None
            assert re.fullmatch(r"(Valkey|Redis) [\d.]+", found.server)
            assert (found.topology, found.policy) == ("one server", "noeviction")
            assert (found.persistence, found.missing) == ("append-only file", ())
            assert (found.warnings, list(monitor.reasons())) == ((), [])
            facts = ", one server; persistence: append-only file"
            assert monitor.describe(with_version=True) == f"{found.server}{facts}"
            name = found.server.partition(" ")[0]
            assert monitor.describe(with_version=False) == f"{name}{facts}"


@pytest.mark.parametrize(
    "policy", ["volatile-lru", "volatile-ttl", "volatile-lfu", "volatile-random", "allkeys-lru"]
)
async def test_every_policy_that_evicts_is_warned_of(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every evicting policy is warned of, volatile ones too, as all keys have a TTL."""
    with store_server(valkey_binary(), "--maxmemory-policy", policy) as url:
        async with watched(url):
            (line,) = lines(caplog, f"maxmemory-policy is {policy}")
            assert "noeviction refuses new ones instead" in line


async def test_a_store_without_persistence_is_warned_of(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store with neither an append-only file nor snapshots is warned of."""
    async with watched(valkey_url):
        assert lines(caplog, "the store does not write to disk: its restart loses all sessions")


async def test_persistence_is_read_again(binary: str) -> None:
    """Snapshots and an append-only file that are turned on or off later are noticed."""
    with store_server(binary, "--save", "3600 1") as url:
        async with watched(url) as (monitor, _):
            found = []
            with operator(url) as store:
                for options in ({}, {"save": ""}, {"appendonly": "yes"}):
                    for name, value in options.items():
                        store.config_set(name, value)
                    await monitor.refresh()
                    found.append(monitor.latest.persistence if monitor.latest else "")
            assert found == ["snapshots", "none", "append-only file"]


async def test_evictions_are_counted_and_logged_once(
    binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Evictions degrade health, are counted, and are logged in one line."""
    options = ("--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru")
    with store_server(binary, *options) as url:
        async with watched(url) as (monitor, repository):
            assert list(monitor.reasons()) == []
            await fill(repository)
            reason = await reasons(monitor)
            seen = monitor.evicted_keys
            assert f"has evicted {seen:,} keys: sessions are lost" in reason
            await fill(repository)
            await monitor.refresh()
            assert monitor.evicted_keys > seen > 0
            assert len(lines(caplog, "the store evicts keys")) == 1
            with operator(url) as store:
                assert monitor.evicted_keys <= store.info("stats")["evicted_keys"]


async def test_a_full_store_is_a_reason(binary: str, caplog: pytest.LogCaptureFixture) -> None:
    """A store that refuses writes for memory degrades health; the log warns before it is full."""
    with store_server(binary, "--maxmemory", "4mb") as url:
        async with watched(url) as (monitor, repository):
            with pytest.raises(StoreUnavailable):
                await fill(repository)
            assert "the store is full" in await reasons(monitor)
            assert lines(caplog, "of its maxmemory of 4 MiB")


async def test_a_store_that_cannot_write_to_disk_is_a_reason(tmp_path: Path) -> None:
    """A failed snapshot, for which the store refuses writes, degrades health."""
    folder = tmp_path / "data"
    folder.mkdir()
    with store_server(valkey_binary(), "--dir", str(folder), "--save", "3600 1") as url:
        async with watched(url) as (monitor, repository):
            with operator(url) as store:
                folder.rmdir()
                store.bgsave()
                await wait_until(
                    lambda: store.info("persistence")["rdb_last_bgsave_status"] == "err"
                )
                with pytest.raises(StoreUnavailable):
                    await fill(repository)
                reason = await reasons(monitor)
                assert "the store's last snapshot failed" in reason
                assert "it refuses all changes" in reason


async def test_a_store_that_comes_late_is_inspected(caplog: pytest.LogCaptureFixture) -> None:
    """A store is inspected when it becomes reachable, and again when another replaces it."""
    port = free_port()
    async with watched(f"redis://127.0.0.1:{port}") as (monitor, _):
        assert monitor.latest is None
        assert monitor.describe(with_version=True) == "not reached yet"
        running = asyncio.create_task(monitor.run())
        assert len(lines(caplog, "store cannot be reached yet")) == 1
        for policy in ("noeviction", "volatile-ttl"):
            options = ("--port", str(port), "--maxmemory-policy", policy)
            with store_server(valkey_binary(), *options):
                await wait_until(partial(has_policy, monitor, policy))
        assert lines(caplog, "maxmemory-policy is volatile-ttl")
        running.cancel()
        await asyncio.wait([running])


def has_policy(monitor: StoreMonitor, policy: str) -> bool:
    return monitor.latest is not None and monitor.latest.policy == policy


async def test_the_epoch_of_the_data_is_read_at_each_connection() -> None:
    """A store that came back without its data has another epoch."""
    port = free_port()
    settings = store_settings(f"redis://127.0.0.1:{port}", store_timeout=1)
    async with open_store(settings) as store:
        monitor = store.monitor
        monitor.data_set = store.data_set
        seen = set[str]()
        for number in (1, 2):
            with store_server(valkey_binary(), "--port", str(port)):

                async def is_read(number: int = number) -> bool:
                    await monitor.refresh()
                    seen.update([monitor.latest.epoch] if monitor.latest else [])
                    return len(seen) == number

                await wait_until(is_read)


@pytest.mark.parametrize("seconds", [-25.0, 300.0])
async def test_a_clock_that_is_set_is_noticed(
    seconds: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A step of the store's clock is measured and logged once."""
    if library() is None:
        skip_without("libfaketime")
    clock = SettableClock(tmp_path)
    with store_server(valkey_binary(), environment=clock.environment) as url:
        async with watched(url) as (monitor, _):
            await monitor.refresh()
            assert monitor.clock_step == 0
            clock.set(seconds)

            async def is_noticed() -> bool:
                await monitor.refresh()
                return monitor.clock_step != 0

            await wait_until(is_noticed)  # a server reads its clock ten times a second
            assert monitor.clock_step == pytest.approx(seconds, abs=1)
            assert len(lines(caplog, "the store's clock was set")) == 1


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "session_service")
