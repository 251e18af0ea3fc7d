"""The audit log: one line for each operation, and none with a secret."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from session_service.composition import Store, open_store
from session_service.domain.addresses import read_networks
from session_service.domain.rates import RateLimit
from session_service.domain.sessions import SessionLimits
from session_service.web.http.address_limit import AddressLimit
from session_service.web.http.client_addresses import TrustedProxies
from session_service.web.http.limits import RequestLimits
from session_service.web.http.state import AppState
from tests.support.access import (
    AGENT,
    ANN,
    BOB,
    OTHER_AGENT,
    KnownCredentials,
    by,
    create,
    page,
    user,
)
from tests.support.api import SESSIONS, Client
from tests.support.factories import store_settings
from tests.support.raw import Raw
from tests.support.service import ServiceUnderTest, app_state
from tests.support.sse import EVENTS
from tests.support.waiting import wait_until

UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
WEBHOOKS = "/api/messaging/webhooks"
SERVER = {"credential_kind": "key", "credential_id": "all", "credential_name": "all"}

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def access() -> KnownCredentials:
    return KnownCredentials()


@pytest.fixture
def history_ms() -> int:
    return 60_000


@pytest.fixture
def service(store: Store, access: KnownCredentials) -> AppState:
    return app_state(store, access=access)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return the function that returns the entries since its last call, without common fields."""
    own = {*vars(logging.makeLogRecord({})), "message", "asctime"}
    caplog.set_level(logging.INFO)

    def lines() -> list[dict[str, Any]]:
        found = [each for each in caplog.records if each.name == "session_service.audit"]
        caplog.clear()
        return [
            {"event": each.getMessage()}
            | {name: value for name, value in vars(each).items() if name not in own}
            for each in found
        ]

    return lines


async def send(client: Client, name: str, method: str, path: str, **options: Any) -> int:
    async with client.request(method, path, headers=by(name), **options) as response:
        await response.read()
        return response.status


def without_address(line: dict[str, Any]) -> dict[str, Any]:
    assert line.pop("address") == "127.0.0.1"
    return line


async def test_a_session_that_a_key_or_user_ends_has_one_line(client: Client, lines: Lines) -> None:
    """The line has who ended it, and by which right; other requests for the session have none."""
    for name, right, who in (
        ("all", "server", SERVER),
        (
            "ann",
            "user",
            {"credential_kind": "user", "credential_id": ANN, "credential_name": ANN, "user": ANN},
        ),
    ):
        session_id = await create(client)
        url = f"{SESSIONS}/{session_id}"
        assert await send(client, name, "GET", url) == 200
        assert await send(client, name, "POST", f"{url}/renew") == 200
        assert await send(client, name, "DELETE", url) == 200
        assert await send(client, name, "DELETE", url) == 404
        (line,) = lines()
        expected = {"event": "session.ended", "outcome": "done", "session": session_id, "by": right}
        assert without_address(line) == expected | who


async def test_a_page_that_ends_its_session_has_a_line(
    client: Client, access: KnownCredentials, lines: Lines
) -> None:
    """The credential is the minter's key, of the kind session."""
    session_id = await create(client)
    access.known["page"] = page(session_id, ANN)
    assert await send(client, "page", "DELETE", f"{SESSIONS}/{session_id}") == 200
    (line,) = lines()
    found = (line["credential_kind"], line["credential_id"], line["session"], line["user"])
    assert found == ("session", "all", session_id, ANN)


async def test_a_repeated_end_is_no_second_end(client: Client, lines: Lines) -> None:
    """A DELETE that is sent again with its Idempotency-Key has the line of the first one only."""
    url = f"{SESSIONS}/{await create(client)}"
    for _ in range(3):
        headers = {"Idempotency-Key": "once"} | by("all")
        assert (await client.delete(url, headers=headers)).status == 200
    assert [each["event"] for each in lines()] == ["session.ended"]


async def test_an_end_whose_client_has_gone_has_a_line(client: Client, lines: Lines) -> None:
    """A client that does not wait for the response to its DELETE has ended the session, too."""
    session_id = await create(client)
    async with await Raw.to(client.port or 0) as raw:
        request = (
            f"DELETE {SESSIONS}/{session_id} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: all\r\n\r\n"
        )
        raw.send(request.encode())
    found: list[dict[str, Any]] = []

    def has_ended() -> bool:
        found.extend(lines())
        return bool(found)

    await wait_until(has_ended)
    assert [(each["event"], each["session"]) for each in found] == [("session.ended", session_id)]


async def test_sessions_ended_together_have_one_line(client: Client, lines: Lines) -> None:
    """The line of a bulk end has the filter and the number; with an Idempotency-Key it is one."""
    for _ in range(3):
        await create(client)
    headers = {"Idempotency-Key": "once"} | by("all")
    for _ in range(2):
        assert (await client.delete(f"{SESSIONS}?userId={ANN}", headers=headers)).status == 200
    assert await send(client, "all", "DELETE", f"{SESSIONS}?all=true") == 200
    one, every = map(without_address, lines())
    shared = {"event": "sessions.ended", "outcome": "done", "by": "server", "more": False}
    assert one == shared | SERVER | {"user": ANN, "ended": 3}
    assert every == shared | SERVER | {"ended": 0}


class TestReplaced:
    """Sessions that are ended because their user has too many."""

    @pytest.fixture
    def limits(self) -> SessionLimits:
        return SessionLimits(per_user=1, ends_oldest=True)

    @pytest.mark.parametrize("get_or_create", [False, True])
    @pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=["", "once"])
    async def test_a_replaced_session_has_one_line(
        self, client: Client, lines: Lines, headers: dict[str, str], *, get_or_create: bool
    ) -> None:
        """The line is about the session that ended, not the new one; a repeated POST has none."""
        oldest = await create(client)
        assert lines() == []
        body = {"userId": ANN, "agentId": OTHER_AGENT, "getOrCreate": get_or_create}
        for _ in range(2 if headers else 1):
            response = await client.post(SESSIONS, json=body, headers=headers | by("all"))
            assert response.status == 201
        (line,) = map(without_address, lines())
        assert line == SERVER | {
            "event": "session.ended",
            "outcome": "done",
            "session": oldest,
            "user": ANN,
            "by": "limit",
            "reason": "replaced",
        }


async def test_listings_of_others_have_lines(client: Client, lines: Lines) -> None:
    """A server's listings and streams have lines; those of a user see only the user's sessions."""
    await create(client)
    lines()
    assert await send(client, "ann", "GET", f"{SESSIONS}?userId={ANN}") == 200
    assert await send(client, "all", "GET", f"{SESSIONS}?userId={ANN}&agentId={AGENT}") == 200
    async with client.get(f"{EVENTS}?userId={ANN}", headers=by("all")) as stream:
        assert stream.status == 200
    async with client.get(EVENTS, headers=by("ann")) as stream:
        assert stream.status == 200
    listed, streamed = map(without_address, lines())
    assert listed == SERVER | {
        "event": "sessions.listed",
        "outcome": "done",
        "user": ANN,
        "agent": AGENT,
        "listed": 1,
    }
    assert streamed == SERVER | {"event": "events.streamed", "outcome": "done", "user": ANN}


async def test_many_listings_are_counted(client: Client, lines: Lines) -> None:
    """Beyond ten in a second, the lines of a credential's listings are one with their number."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    for _ in range(60):
        assert await send(client, "all", "GET", SESSIONS) == 200
    found: list[dict[str, Any]] = []

    def total() -> int:
        found.extend(lines())
        return sum(each.get("count", 1) for each in found)

    await wait_until(lambda: total() >= 60)
    assert total() == 60
    assert len(found) <= 11 * (1 + loop.time() - since)


async def test_an_erased_conversation_has_a_line(client: Client, lines: Lines) -> None:
    """Erasing a retained conversation has a line; one that does not exist has none."""
    session_id = await create(client)
    url = f"{SESSIONS}/{session_id}"
    assert await send(client, "all", "POST", f"{url}/messages", json={"content": "Hello"}) == 201
    assert await send(client, "all", "DELETE", url) == 200
    lines()
    history = f"/api/messaging/channels/{session_id}/messages"
    assert await send(client, "all", "DELETE", history) == 200
    assert await send(client, "all", "DELETE", history) == 404
    (line,) = lines()
    assert without_address(line) == SERVER | {
        "event": "history.erased",
        "outcome": "done",
        "session": session_id,
    }


async def test_changes_of_webhooks_have_lines(client: Client, lines: Lines) -> None:
    """Each operation that changes or tests one has a line, without the secret or URL."""
    body = {"url": "https://hooks.example.org/?token=hush"}
    async with client.post(WEBHOOKS, json=body, headers=by("all")) as response:
        webhook = (await response.json())["webhookId"]
    url = f"{WEBHOOKS}/{webhook}"
    assert await send(client, "all", "GET", url) == 200
    assert await send(client, "all", "POST", f"{url}/rotate", json={"overlapHours": 2}) == 200
    assert await send(client, "all", "POST", f"{url}/dead/replay", json={}) == 200
    assert await send(client, "all", "POST", f"{url}/test", json={"type": "ended"}) == 200
    assert await send(client, "all", "DELETE", url) == 200
    assert await send(client, "all", "DELETE", url) == 404
    shared = SERVER | {"webhook": webhook, "outcome": "done"}
    assert list(map(without_address, lines())) == [
        shared | {"event": "webhook.created"},
        shared | {"event": "webhook.rotated", "overlap_hours": 2},
        shared | {"event": "webhook.replayed", "replayed": 0},
        shared | {"event": "webhook.tested", "delivered": False},
        shared | {"event": "webhook.deleted"},
    ]


async def test_refusals_have_lines(client: Client, lines: Lines) -> None:
    """A 401 has the address, a 403 the credential as well, and each the operation and its ids."""
    assert await send(client, "hush", "DELETE", f"{SESSIONS}/{UNKNOWN}") == 401
    assert await send(client, "reader", "DELETE", f"{SESSIONS}/{UNKNOWN}") == 403
    assert await send(client, "ann", "DELETE", f"{WEBHOOKS}/{UNKNOWN}") == 403
    assert await send(client, "reader", "DELETE", f"{SESSIONS}/hush") == 403
    unknown, scope, webhook, no_id = map(without_address, lines())
    shared = {"event": "request.refused", "outcome": "refused"}
    at_session = {"operation": "endSession", "session": UNKNOWN}
    reader = {"credential_kind": "key", "credential_id": "reader", "credential_name": "reader"}
    assert unknown == shared | at_session | {"status": 401}
    assert scope == shared | at_session | {"status": 403} | reader
    assert (webhook["operation"], webhook["webhook"]) == ("deleteWebhook", UNKNOWN)
    assert no_id == shared | {"operation": "endSession", "status": 403} | reader


async def test_many_refusals_are_counted_by_source(
    client: Client, access: KnownCredentials, lines: Lines
) -> None:
    """Beyond ten in a second, refusals are counted, for each credential by itself."""
    access.known["eve"] = user(str(UUID(int=1)))
    names = ("nobody", "ann", "eve")
    for _ in range(30):
        for name in names:
            assert await send(client, name, "GET", WEBHOOKS) in (401, 403)
    found: list[dict[str, Any]] = []

    def counts() -> list[int]:
        found.extend(lines())
        sources = (None, ANN, str(UUID(int=1)))
        return [
            sum(each.get("count", 1) for each in found if each.get("credential_id") == source)
            for source in sources
        ]

    await wait_until(lambda: sum(counts()) >= 90)
    assert counts() == [30, 30, 30]
    assert len(found) < 90


class TestBehindAProxy:
    """Requests that a trusted proxy passes on."""

    @pytest.fixture
    def service(self, store: Store, access: KnownCredentials) -> AppState:
        proxies = TrustedProxies(read_networks("127.0.0.0/8"))
        return app_state(store, access=access, proxies=proxies)

    async def test_the_address_is_that_of_the_client(self, client: Client, lines: Lines) -> None:
        """Lines of refusals and of other operations have the address that the proxy names."""
        forwarded = {"X-Forwarded-For": "198.51.100.7"}
        assert (await client.get(SESSIONS, headers=forwarded)).status == 401
        assert (await client.get(SESSIONS, headers=forwarded | by("all"))).status == 200
        assert [each["address"] for each in lines()] == ["198.51.100.7"] * 2


class TestLimited:
    """Requests beyond a limit."""

    @pytest.fixture
    def service(self, store: Store, access: KnownCredentials) -> AppState:
        limits = RequestLimits(addresses=AddressLimit(RateLimit(3, 3600)))
        return app_state(store, access=access, limits=limits)

    async def test_a_429_has_a_line(self, client: Client, lines: Lines) -> None:
        """A refusal for the limit is one line, with its status."""
        statuses = [await send(client, "nobody", "GET", SESSIONS) for _ in range(5)]
        assert statuses == [401] * 3 + [429] * 2
        assert [each["status"] for each in lines()] == statuses


async def test_a_replayed_refusal_has_a_line(client: Client, lines: Lines) -> None:
    """A 403 that is replayed with its Idempotency-Key is a refusal like any other."""
    headers = {"Idempotency-Key": "once"} | by("ann")
    for _ in range(2):
        url = f"{SESSIONS}?userId={BOB}"
        assert (await client.delete(url, headers=headers)).status == 403
    assert [each["status"] for each in lines()] == [403, 403]


async def test_an_end_whose_outcome_is_unknown_has_a_line(
    aiohttp_client: Callable[..., Any], lines: Lines
) -> None:
    """If the store does not answer, the session may have ended: the line says so."""
    async with open_store(store_settings("redis://127.0.0.1:1/0", store_timeout=1)) as store:
        service = app_state(store, access=KnownCredentials())
        client: Client = await aiohttp_client(ServiceUnderTest(service))
        assert await send(client, "all", "DELETE", f"{SESSIONS}/{UNKNOWN}") == 503
    (line,) = lines()
    assert (line["outcome"], line["session"]) == ("unknown", UNKNOWN)


async def test_without_access_control_there_is_no_line(
    store: Store, aiohttp_client: Callable[..., Any], lines: Lines
) -> None:
    """Access control is off: nothing is audited."""
    client: Client = await aiohttp_client(ServiceUnderTest(app_state(store)))
    url = f"{SESSIONS}/{await create(client)}"
    assert await send(client, "all", "DELETE", url) == 200
    assert await send(client, "all", "GET", SESSIONS) == 200
    assert await send(client, "all", "DELETE", f"{SESSIONS}?all=true") == 200
    headers = {"Host": "elsewhere.example.org"}
    assert (await client.get(SESSIONS, headers=headers)).status == 403
    assert lines() == []
