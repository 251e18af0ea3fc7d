"""JWTs in requests: users with tokens of an identity provider."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from session_service.access.authenticator import Authenticator
from session_service.access.jwt import JwtVerifier
from session_service.access_settings import JwtSettings
from session_service.composition import Store
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.jwts import AUDIENCE, ISSUER, KeySetEndpoint, jwk, token
from tests.support.service import app_state

USER = "4c75a355-9122-5780-9311-1c468697042d"  # auth0|42 of ISSUER


@pytest.fixture
async def endpoint() -> AsyncIterator[KeySetEndpoint]:
    made = KeySetEndpoint(jwk("p256"))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def service(store: Store, endpoint: KeySetEndpoint) -> AppState:
    settings = JwtSettings(key_set_url=endpoint.url, issuer=ISSUER, audience=AUDIENCE)
    return app_state(store, access=Authenticator(jwts=JwtVerifier(settings)))


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token('p256', 'ES256', **claims)}"}


async def create(client: Client, headers: dict[str, str], user: str) -> str:
    body = {"userId": user, "agentId": AGENT}
    response = await client.post(SESSIONS, json=body, headers=headers)
    assert response.status == 201, await response.text()
    session_id: str = (await response.json())["sessionId"]
    return session_id


async def test_a_user_has_only_its_own_sessions(client: Client) -> None:
    """A token creates and reads sessions of its user, by UUID or by the documented UUIDv5."""
    own = f"{SESSIONS}/{await create(client, bearer(), USER)}"
    ann = bearer(sub=ANN.upper())
    assert (await client.get(own, headers=bearer())).status == 200
    await assert_error(await client.get(own, headers=ann), 404, "SESSION_NOT_FOUND")
    hers = f"{SESSIONS}/{await create(client, ann, ANN)}"
    assert (await client.get(hers, headers=ann)).status == 200


async def test_scopes_of_a_token_are_those_of_the_user(client: Client) -> None:
    """A token with the claim has only those scopes; sessions:admin is not limited to a user."""
    own = f"{SESSIONS}/{await create(client, bearer(), USER)}"
    response = await client.delete(own, headers=bearer(scope="openid sessions:read"))
    error = await assert_error(response, 403, "FORBIDDEN")
    assert "sessions:write" in error["details"]
    admin = bearer(sub=ANN, scope=["sessions:admin", "sessions:read"])
    assert (await client.get(own, headers=admin)).status == 200


async def test_a_token_is_accepted_until_30_seconds_after_its_expiry(client: Client) -> None:
    """The leeway holds for requests; after it, the answer is that to a missing credential."""
    now = int(time.time())
    assert (await client.get(SESSIONS, headers=bearer(sub=ANN, exp=now - 5))).status == 200
    missing = await client.get(SESSIONS)
    expired = await client.get(SESSIONS, headers=bearer(sub=ANN, exp=now - 31))
    await assert_error(expired, 401, "UNAUTHORIZED")
    assert expired.headers["WWW-Authenticate"] == missing.headers["WWW-Authenticate"]
    assert await expired.text() == await missing.text()


async def test_without_the_key_set_a_token_is_a_503(
    client: Client, endpoint: KeySetEndpoint
) -> None:
    """A token that cannot be verified is a 503 and not a 401, and a stream waits."""
    await endpoint.stop()
    response = await client.get(SESSIONS, headers=bearer())
    await assert_error(response, 503, "NOT_READY")
    assert response.headers["Retry-After"] == "1"
    async with client.get("/api/messaging/events", headers=bearer()) as stream:
        assert stream.status == 200
        assert (await stream.text()).startswith("retry: ")
    await assert_error(await client.get(SESSIONS), 401, "UNAUTHORIZED")
