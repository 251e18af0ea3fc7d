"""The limit on sessions created by pages (setting SESSION_CREATE_LIMIT_ADDRESS)."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from session_service.domain.budgets import CREATE_ADDRESSES, CREATE_SECONDS
from session_service.domain.errors import RateLimited
from session_service.web.http.create_limit import CreateLimit
from session_service.web.http.state import AppState
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import session_body

PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def store_url() -> str:
    """One store, as these tests do not depend on it."""
    return "memory://"


@pytest.fixture
def limit() -> int:
    """The number of sessions that pages may create; a test may override it."""
    return 3


@pytest.fixture
def service(service: AppState, limit: int) -> AppState:
    service.creations = CreateLimit(limit)
    return service


async def create_many(client: Client, headers: Mapping[str, str], n: int = 1) -> list[int]:
    """Create sessions one after the other; return the statuses."""
    statuses = []
    for _ in range(n):
        body = session_body()
        async with client.post(SESSIONS, json=body, headers=headers) as response:
            statuses.append(response.status)
    return statuses


async def test_a_page_that_loops_is_stopped(client: Client) -> None:
    """Beyond the limit a page gets 429 with Retry-After, with an idempotency key too."""
    assert await create_many(client, PAGE, 3) == [201, 201, 201]
    body = session_body()
    for more in ({}, {"Idempotency-Key": "a"}):
        response = await client.post(SESSIONS, json=body, headers={**PAGE, **more})
        error = await assert_error(response, 429, "RATE_LIMITED")
        assert "SESSION_CREATE_LIMIT_ADDRESS" in error["details"]
        assert 1 <= int(response.headers["Retry-After"]) <= CREATE_SECONDS


async def test_servers_are_not_counted(client: Client) -> None:
    """Servers are not counted, even if they send Sec-Fetch-Mode as Node does."""
    assert await create_many(client, PAGE, 3) == [201, 201, 201]
    assert await create_many(client, {}, 5) == [201] * 5
    assert await create_many(client, {"Sec-Fetch-Mode": "cors"}, 5) == [201] * 5
    session = await create(client)
    for _ in range(5):
        url = f"{SESSIONS}/{session['sessionId']}/renew"
        assert (await client.post(url, headers=PAGE)).status == 200
    assert await create_many(client, {"Origin": f"http://127.0.0.1:{client.port}"}) == [429]


async def test_a_proxy_names_the_address(client: Client) -> None:
    """Clients behind a proxy are counted one by one."""
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2, 198.51.100.7"):
        headers = {**PAGE, "X-Forwarded-For": address}
        assert await create_many(client, headers, 4) == [201, 201, 201, 429]


@pytest.mark.parametrize("limit", [0])
async def test_the_limit_can_be_switched_off(client: Client) -> None:
    """A limit of 0 is no limit."""
    assert await create_many(client, PAGE, 10) == [201] * 10


class TestWindows:
    """How creations are counted, with a clock that the test sets."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [1000.0]

    @pytest.fixture
    def creations(self, now: list[float]) -> CreateLimit:
        return CreateLimit(2, lambda: now[0])

    def test_an_address_may_go_on_in_the_next_window(
        self, creations: CreateLimit, now: list[float]
    ) -> None:
        """An address may create sessions again after its window, which its first session began."""
        count(creations, "a")
        now[0] += CREATE_SECONDS - 10
        count(creations, "a")
        with pytest.raises(RateLimited) as refused:
            count(creations, "a")
        assert refused.value.retry_after == 10
        now[0] += 10
        count(creations, "a")
        count(creations, "a")
        with pytest.raises(RateLimited):
            count(creations, "a")

    def test_the_oldest_of_many_addresses_is_forgotten(
        self, creations: CreateLimit, now: list[float]
    ) -> None:
        """Only the addresses counted last are kept, so the memory is bounded."""
        for address in ("first", "first", "last", "last"):
            count(creations, address)
        now[0] += CREATE_SECONDS
        count(creations, "last")
        count(creations, "last")
        for n in range(CREATE_ADDRESSES - 1):
            count(creations, str(n))
        count(creations, "first")
        with pytest.raises(RateLimited):
            count(creations, str(CREATE_ADDRESSES - 2), times=2)
        count(creations, "last", times=2)
        assert len(creations._windows) == CREATE_ADDRESSES  # noqa: SLF001 - the memory it takes


def count(creations: CreateLimit, address: str, times: int = 1) -> None:
    """Count the creation of a session by a page at an address."""
    headers = CIMultiDict(PAGE)
    for _ in range(times):
        page = creations.page_of(cast("Any", SimpleNamespace(headers=headers, remote=address)))
        assert page
        creations.count(page)
