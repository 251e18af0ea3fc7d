"""Checks of the store: what the monitor of the service finds, and its speed, clock and data."""

import statistics
import time
from collections.abc import AsyncIterator

from msgspec.structs import replace

from session_service.composition import Store, open_store
from session_service.domain.api_keys import MAX_KEYS
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.domain.findings import Finding, error, ok, warning
from session_service.domain.ids import SHARDS
from session_service.process.reach import UnreachableStoreError, store_url
from session_service.settings import Settings
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.store.client.executor import error_code
from session_service.store.inspection.dataset import OldDataError, check_layout
from session_service.store.inspection.kinds import wrong_kind
from session_service.store.records import FORMAT
from session_service.store.scripts.dataset import META

_PINGS = 5
_SLOW_SECONDS = 0.005  # of a round trip: each request takes one
_CLOCK_SECONDS = (1.0, 30.0)  # from which a difference is a warning, and an error
_ALMOST = 0.9  # of the API keys that there can be


async def check_store(settings: Settings) -> list[Finding]:
    """Return the findings about the store of the settings, or of the service that runs here.

    Changes nothing but the scripts that the store knows.
    """
    try:
        url = store_url(settings)
    except UnreachableStoreError as failed:
        return [
            warning(
                "store",
                f"the store was not checked: {failed}",
                "run doctor again while the service runs",
            )
        ]
    async with open_store(replace(settings, redis_url=url)) as store:
        if problem := await wrong_kind(store.url):
            return [error("store-kind", problem, "correct REDIS_URL")]
        await store.monitor.refresh()
        if store.monitor.latest is None and not any(store.monitor.findings()):
            return [await _absence(store)]
        try:
            return [finding async for finding in _check(store)]
        except (StoreUnavailable, RecordUnreadable) as failed:
            problem = f"the store cannot be used: {failed.reason}"
            return [*store.monitor.findings(), error("store", problem, "see the store's log")]


async def _absence(store: Store) -> Finding:
    try:
        await store.executor.ping()
        reason = "it cannot be inspected"
    except StoreUnavailable as failed:
        reason = failed.reason
    return error(
        "store",
        f"the store at {store.url.address} cannot be reached: {reason}",
        "wait: it is reading its file"
        if error_code(reason) == "LOADING"
        else "start it, or correct REDIS_URL and its password",
    )


async def _check(store: Store) -> AsyncIterator[Finding]:
    found = store.monitor.latest
    if found is not None:
        state = f"{found.server}, {found.topology}, at {store.url.address}"
        yield ok("store", state)
    findings = list(store.monitor.findings())
    for each in findings:
        yield each
    if found is None or found.problem or found.missing:
        return  # what follows needs these commands
    names = {each.id for each in findings}
    if "eviction" not in names:
        yield ok("eviction", f"maxmemory-policy is {found.policy}")
    if "persistence" not in names:
        yield ok("persistence", f"the store writes to disk: {found.persistence}")
    yield ok("permissions", "the store's user is permitted all commands")
    if store.settings.write_ack == "replica" and not found.has_replicas:
        yield error(
            "write-ack",
            "WRITE_ACK is replica, and a master has no replica: its writes are answered 503",
            "start a replica, or set another WRITE_ACK",
        )
    yield _check_clock(store.monitor.clock_difference or 0)
    yield await _check_speed(store)
    yield await _check_data(store)
    if store.settings.access.is_on:
        yield await _check_keys(store)


def _check_clock(seconds: float) -> Finding:
    state = (
        f"the store's clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    )
    some, many = _CLOCK_SECONDS
    if abs(seconds) < some:
        return ok("clock", state)
    level = warning if abs(seconds) < many else error
    return level(
        "clock",
        f"{state}: sessions end by the store's clock, and credentials by ours",
        "synchronise both with NTP (chrony, systemd-timesyncd)",
    )


async def _check_speed(store: Store) -> Finding:
    seconds = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await store.executor.ping()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    state = f"a round trip to the store takes {median * 1000:.1f} ms"
    if median < _SLOW_SECONDS:
        return ok("round-trip", state)
    return warning("round-trip", state, "run the service nearer to the store")


async def _check_data(store: Store) -> Finding:
    """Find data of an older format, or of a newer one."""
    try:
        await check_layout(store.executor, store.settings.key_prefix)
    except OldDataError as failed:
        return error("data-format", str(failed), "see docs/upgrading.md")
    (name,) = store.keys.of_shard(META.keys, SHARDS[0]).names()
    replies = await store.executor.run_on_masters(("HGET", name, "format"))
    formats = [int(each) for (each,) in replies.values() if isinstance(each, bytes)]
    if formats and formats[0] > FORMAT:
        return warning(
            "data-format",
            f"a newer version has written format {formats[0]}; this one reads up to {FORMAT}, and"
            " answers 503 for the sessions of the newer one",
            "upgrade this node",
        )
    return ok("data-format", f"format {formats[0]}" if formats else "the store has no data yet")


async def _check_keys(store: Store) -> Finding:
    registry = ApiKeyRegistry(store.executor, store.keys, store.quarantine)
    now = round(time.time() * 1000)
    keys = (await registry.list_all()).values()
    valid = [key for key in keys if key.is_valid(now)]
    if registry.unreadable:
        return error(
            "api-keys",
            f"{len(registry.unreadable)} API keys cannot be read: {', '.join(registry.unreadable)}",
            "revoke them, or upgrade if a newer version wrote them",
        )
    if store.settings.access.needs_keys and not valid:
        return error(
            "api-keys",
            "access control is on, and there is no valid API key, so every request is refused",
            "session-service keys create NAME --scopes …",
        )
    if len(valid) >= _ALMOST * MAX_KEYS:
        return warning(
            "api-keys",
            f"{len(valid):,} API keys are valid, of at most {MAX_KEYS:,}",
            "revoke those that nobody uses",
        )
    return ok("api-keys", f"{len(valid):,} API keys are valid")
