"""Streams under access control: they end with their credential."""

import asyncio

import pytest

from session_service.composition import Store
from session_service.web.http.state import AppState
from tests.support.access import (
    ANN,
    KnownCredentials,
    by,
    create,
    expiring,
    key,
    user,
)
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.service import app_state
from tests.support.sse import EVENTS, Source
from tests.support.waiting import a_moment_later, wait_until

UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
EXPIRED = b"event: credential-expired\ndata: {}\n\n"

pytestmark = pytest.mark.usefixtures("begun")


@pytest.fixture
def access() -> KnownCredentials:
    return KnownCredentials()


@pytest.fixture
def service(store: Store, access: KnownCredentials) -> AppState:
    return app_state(store, access=access)


@pytest.mark.parametrize("is_revoked", [False, True])
@pytest.mark.parametrize("of_one", [False, True])
async def test_a_stream_ends_with_its_credential(
    client: Client,
    access: KnownCredentials,
    service: AppState,
    *,
    is_revoked: bool,
    of_one: bool,
) -> None:
    """The last block is an event without an id; events afterwards are not delivered."""
    session_id = await create(client)
    await a_moment_later()
    path = f"{SESSIONS}/{session_id}/events" if of_one else EVENTS
    access.known["short"] = key("short") if is_revoked else expiring(user(ANN), 1)
    response = await client.get(path, headers=by("short"))
    url = f"{SESSIONS}/{session_id}/messages"
    await client.post(url, json={"content": "before"}, headers=by("all"))
    source = Source(response)
    event = await source.next()
    assert event is not None
    assert event.name == "session.message"
    if is_revoked:
        access.revoked.add("short")
    block = await response.content.readuntil(b"\n\n")
    await client.post(url, json={"content": "afterwards"}, headers=by("all"))
    async with asyncio.timeout(5):
        assert block + await response.read() == EXPIRED
    await wait_until(lambda: service.feed.subscribers == 0)
    if not is_revoked:
        return
    del access.known["short"]
    await assert_error(await client.get(path, headers=by("short")), 401, "UNAUTHORIZED")


async def test_an_outage_ends_a_stream_for_a_while(
    client: Client, access: KnownCredentials
) -> None:
    """If the credential cannot be verified any more, the client comes back; later it can."""
    response = await client.get(EVENTS, headers=by("all"))
    source = Source(response)
    access.is_outage = True
    assert await source.next() is None
    assert "cannot be verified" in source.comments[-1]
    waiting = Source(await client.get(EVENTS, headers=by("all")))
    assert (await waiting.next(), waiting.response.status) == (None, 200)
    assert waiting.retry >= 1000


@pytest.mark.parametrize("last_id", ["", "1764000000000-3f-0"])
async def test_a_stream_of_anothers_session_does_not_exist(client: Client, last_id: str) -> None:
    """Also with a Last-Event-ID, and after the session has ended, it is as an unknown one."""
    session_id = await create(client)
    headers = by("bob") | ({"Last-Event-ID": last_id} if last_id else {})

    async def answer(session_id: str) -> tuple[int, str]:
        response = await client.get(f"{SESSIONS}/{session_id}/events", headers=headers)
        return response.status, await response.text()

    unknown = await answer(UNKNOWN)
    assert unknown[0] == 404
    assert await answer(session_id) == unknown
    await client.delete(f"{SESSIONS}/{session_id}", headers=by("all"))
    assert await answer(session_id) == unknown


class TestWithoutAccessControl:
    """Access control is off."""

    @pytest.fixture
    def service(self, store: Store) -> AppState:
        return app_state(store)

    async def test_a_token_is_ignored(self, client: Client) -> None:
        """Parameters that a stream does not know have no effect, and so has ``token``."""
        response = await client.head(f"{EVENTS}?token=x")
        assert response.status == 200
