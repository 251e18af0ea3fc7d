"""API keys in requests."""

import pytest

from session_service.access.authenticator import Authenticator
from session_service.access.key_ring import ApiKeys
from session_service.composition import Store
from session_service.domain.credentials import Permission
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.service import app_state


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(store: Store) -> ApiKeyRegistry:
    return ApiKeyRegistry(store.executor, store.keys, store.quarantine)


@pytest.fixture
def keys(registry: ApiKeyRegistry, clock: Clock) -> ApiKeys:
    return ApiKeys(registry, clock)


@pytest.fixture
def service(store: Store, keys: ApiKeys) -> AppState:
    return app_state(store, access=Authenticator(keys=keys))


async def test_a_key_serves_for_a_minute_without_the_store_and_then_is_503(
    client: Client, registry: ApiKeyRegistry, keys: ApiKeys, clock: Clock
) -> None:
    """A minute after the last reading, requests with a key get a 503, those without one a 401."""
    added = await registry.add("billing", frozenset((Permission.SESSIONS_READ,)))
    assert added is not None
    headers = {"Authorization": f"Bearer {added[1]}"}
    await assert_error(await client.get(SESSIONS, headers=headers), 503, "STORE_UNAVAILABLE")
    await keys.refresh()
    clock.seconds += 60
    assert (await client.get(SESSIONS, headers=headers)).status == 200
    clock.seconds += 1
    await assert_error(await client.get(SESSIONS, headers=headers), 503, "STORE_UNAVAILABLE")
    await assert_error(await client.get(SESSIONS), 401, "UNAUTHORIZED")
    await keys.refresh()
    assert (await client.get(SESSIONS, headers=headers)).status == 200


async def test_a_key_without_a_scope_is_refused(
    client: Client, registry: ApiKeyRegistry, keys: ApiKeys
) -> None:
    """A key may do what its scopes say, and no more."""
    added = await registry.add("billing", frozenset((Permission.SESSIONS_READ,)))
    assert added is not None
    await keys.refresh()
    headers = {"X-API-KEY": added[1]}
    assert (await client.get(SESSIONS, headers=headers)).status == 200
    await assert_error(await client.post(SESSIONS, json={}, headers=headers), 403, "FORBIDDEN")
