"""Session tokens: minted by servers and users, and used by pages (access, "Credentials")."""

import logging
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from session_service.access.session_tokens import SessionTokens
from session_service.access_settings import Secret
from session_service.composition import Store
from session_service.domain.credentials import SESSION_TOKEN_PERMISSIONS, Permission
from session_service.domain.timeouts import TimeoutPolicy
from session_service.domain.times import iso
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, KnownCredentials, key
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.factories import ID
from tests.support.service import app_state
from tests.support.waiting import wait_until

READ = ["sessions:read"]


class Keys:
    """API keys: all are valid but those that are revoked."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def name_of(self, key_id: str, now: int) -> str | None:
        assert now > 0
        return None if key_id in self.revoked else f"the name of {key_id}"


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def tokens(keys: Keys) -> SessionTokens:
    return SessionTokens((Secret("a secret of thirty-two bytes or more"),), keys)


@pytest.fixture
def access(tokens: SessionTokens) -> KnownCredentials:
    return KnownCredentials(sessions=tokens)


@pytest.fixture
def service(store: Store, access: KnownCredentials, tokens: SessionTokens) -> AppState:
    return app_state(store, access=access, session_tokens=tokens)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def create(client: Client, user: str = ANN, **fields: Any) -> str:
    """Create a session of a user with AGENT; return its URL."""
    body = {"userId": user, "agentId": AGENT, **fields}
    async with client.post(SESSIONS, json=body, headers=bearer("all")) as response:
        assert response.status == 201
        return f"{SESSIONS}/{(await response.json())['sessionId']}"


async def mint(client: Client, url: str, scopes: list[str], **fields: Any) -> dict[str, Any]:
    """Mint a token of the key with all scopes, or ``of`` another; return the body of the 201."""
    minter = bearer(fields.pop("of", "all"))
    async with client.post(
        f"{url}/tokens", json={"scopes": scopes, **fields}, headers=minter
    ) as response:
        assert response.status == 201, await response.text()
        minted: dict[str, Any] = await response.json()
        return minted


async def status(client: Client, text: str, url: str, method: str = "GET") -> int:
    async with client.request(method, url, headers=bearer(text)) as response:
        return response.status


async def now_of(client: Client) -> datetime:
    """Return the time of the store's clock, as that of a new session."""
    async with client.get(await create(client), headers=bearer("all")) as response:
        return datetime.fromisoformat((await response.json())["createdAt"])


@pytest.mark.parametrize("minter", ["all", "bound", "ann"])
async def test_a_token_uses_its_session_within_its_scopes(client: Client, minter: str) -> None:
    """A token that a key or the session's user mints has its scopes, and no others."""
    url = await create(client)
    minted = await mint(client, url, ["sessions:read", "messages:write"], of=minter)
    assert set(minted) == {"token", "expiresAt", "scopes"}
    assert minted["token"].startswith("sst_")
    assert minted["scopes"] == ["sessions:read", "messages:write"]
    page = bearer(minted["token"])
    assert (await client.get(url, headers=page)).status == 200
    sent = await client.post(f"{url}/messages", json={"content": "Hello"}, headers=page)
    assert (sent.status, (await sent.json())["authorId"]) == (201, ANN)
    for method, path in (("GET", "/messages"), ("POST", "/renew"), ("GET", "/events")):
        response = await client.request(method, url + path, headers=page)
        await assert_error(response, 403, "FORBIDDEN")


async def test_a_token_is_for_one_session_only(client: Client) -> None:
    """Another session of the same user is as unknown to it as one that never was."""
    minted = await mint(client, await create(client), READ)
    other = await create(client)
    answers = set()
    for url in (other, f"{SESSIONS}/{ID}"):
        async with client.get(url, headers=bearer(minted["token"])) as response:
            answers.add((response.status, await response.text()))
    assert [code for code, _ in answers] == [404]


async def test_a_token_lasts_as_long_as_asked_for(client: Client) -> None:
    """The default is 15 minutes, at most 60 are allowed, and fractions of a minute are."""
    url = await create(client)
    for fields, minutes in (
        ({}, 15),
        ({"expiresInMinutes": 60}, 60),
        ({"expiresInMinutes": 0.5}, 0.5),
    ):
        before = await now_of(client)
        minted = await mint(client, url, READ, **fields)
        after = await now_of(client)
        ends = datetime.fromisoformat(minted["expiresAt"]).timestamp() - 60 * minutes
        assert before.timestamp() <= ends <= after.timestamp()


class TestBrief:
    """Sessions and tokens that last for a moment."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=0.001)

    async def test_a_token_does_not_outlive_its_session(self, client: Client) -> None:
        """It ends with the maximum duration, whatever was asked for."""
        brief = {"timeoutMinutes": 0.1, "maxDurationMinutes": 0.2}
        url = await create(client, timeoutConfig=brief)
        minted = await mint(client, url, READ, expiresInMinutes=60)
        async with client.get(url, headers=bearer("all")) as response:
            created = datetime.fromisoformat((await response.json())["createdAt"])
        assert (datetime.fromisoformat(minted["expiresAt"]) - created).total_seconds() == 12

    async def test_a_token_ends(self, client: Client) -> None:
        """After its end it is a 401, and the session goes on."""
        url = await create(client)
        minted = await mint(client, url, READ, expiresInMinutes=0.003)

        async def has_ended() -> bool:
            return await status(client, minted["token"], url) == 401

        await wait_until(has_ended)
        assert await status(client, "all", url) == 200

    async def test_a_session_that_is_over_has_no_tokens(self, client: Client) -> None:
        """Minting for an expired session is a 410, and for one that has ended a 404."""
        url = await create(client, timeoutConfig={"timeoutMinutes": 0.001})

        async def is_refused() -> bool:
            async with client.post(
                f"{url}/tokens", json={"scopes": READ}, headers=bearer("all")
            ) as response:
                return response.status == 410

        await wait_until(is_refused)
        url = await create(client)
        assert await status(client, "all", url, "DELETE") == 200
        response = await client.post(f"{url}/tokens", json={"scopes": READ}, headers=bearer("all"))
        await assert_error(response, 404, "SESSION_NOT_FOUND")


async def test_a_token_ends_with_the_credential_that_minted_it(
    client: Client, access: KnownCredentials
) -> None:
    """It expires with the JWT or the key that minted it."""
    url = await create(client)
    soon = int((await now_of(client)).timestamp() * 1000) + 30_000
    for name in ("ann", "all"):
        access.known["ending"] = replace(access.known[name], expires=soon)
        minted = await mint(client, url, READ, of="ending")
        assert minted["expiresAt"] == iso(soon)


async def test_a_token_is_revoked_with_its_key(client: Client, keys: Keys) -> None:
    """The token of a revoked key is a 401; those of a user are not affected."""
    url = await create(client)
    of_user, of_key = [await mint(client, url, READ, of=name) for name in ("ann", "all")]
    keys.revoked.add("all")
    assert await status(client, of_user["token"], url) == 200
    async with client.get(url, headers=bearer(of_key["token"])) as response:
        await assert_error(response, 401, "UNAUTHORIZED")


async def refusal(client: Client, url: str, minter: str, body: Any) -> tuple[int, str, str]:
    """Return the status, the code and the details of a refused request for a token."""
    async with client.post(f"{url}/tokens", json=body, headers=bearer(minter)) as response:
        error = (await response.json())["error"]
        return response.status, error["code"], error["details"]


async def test_a_token_has_no_scope_that_its_minter_lacks(
    client: Client, access: KnownCredentials
) -> None:
    """Such a scope is a 403 that names it; one that no token may have, or unknown, is a 400."""
    url = await create(client)
    access.known["few"] = key("few", None, Permission.EVENTS_READ, Permission.WEBHOOKS_ADMIN)
    for scope in ("events:read", "webhooks:admin"):
        code, name, details = await refusal(client, url, "few", {"scopes": [*READ, scope]})
        assert (code, name) == (403, "FORBIDDEN")
        assert scope in details
    for scope in ("webhooks:admin", "sessions:admin", "messages:agent", "nothing"):
        refused = await refusal(client, url, "all", {"scopes": [*READ, scope]})
        assert refused == (400, "VALIDATION_ERROR", "scopes")
    assert (await refusal(client, url, "ann", {"scopes": ["messages:agent"]}))[0] == 403
    assert (await refusal(client, url, "reader", {"scopes": READ}))[0] == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "sessions:read"}, "scopes"),
        ({"scopes": [1]}, "scopes[0]"),
        ({"scopes": READ, "expiresInMinutes": 0}, "expiresInMinutes"),
        ({"scopes": READ, "expiresInMinutes": 61}, "expiresInMinutes"),
        ({"scopes": READ, "expiresInMinutes": "5"}, "expiresInMinutes"),
    ],
)
async def test_a_bad_request_for_a_token_names_the_field(
    client: Client, body: Any, field: str
) -> None:
    """Scopes are required, and a token lasts an hour at most."""
    refused = await refusal(client, await create(client), "all", body)
    assert refused == (400, "VALIDATION_ERROR", field)


async def test_a_token_mints_no_tokens(client: Client) -> None:
    """A session token with all scopes that it can have is refused with a 403."""
    url = await create(client)
    scopes = [*map(str, SESSION_TOKEN_PERMISSIONS)]
    minted = await mint(client, url, scopes)
    code, name, details = await refusal(client, url, minted["token"], {"scopes": READ})
    assert (code, name) == (403, "FORBIDDEN")
    assert "session token" in details


async def test_only_the_owner_of_a_session_gets_a_token_for_it(client: Client) -> None:
    """For another user or a key of another agent the session does not exist."""
    url = await create(client)
    for minter in ("bob", "other-bound"):
        never = await refusal(client, f"{SESSIONS}/{ID}", minter, {"scopes": READ})
        assert never[:2] == (404, "SESSION_NOT_FOUND")
        assert await refusal(client, url, minter, {"scopes": READ}) == never


async def test_a_token_is_never_stored(client: Client, redis: Redis) -> None:
    """Minting writes nothing to the store, also with an Idempotency-Key."""
    url = await create(client)
    before = sorted(await redis.keys("*"))
    for _ in range(2):
        headers = {"Idempotency-Key": "the same", **bearer("all")}
        response = await client.post(f"{url}/tokens", json={"scopes": READ}, headers=headers)
        assert response.status == 201
    assert sorted(await redis.keys("*")) == before


async def test_minting_has_one_line_in_the_audit_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The line has the key, the session, its user and the scopes, but not the token."""
    caplog.set_level(logging.DEBUG)
    url = await create(client)
    token = (await mint(client, url, READ))["token"]
    async with client.delete(url, headers=bearer(token)) as response:
        await assert_error(response, 403, "FORBIDDEN")
    minted, refused = [each for each in caplog.records if each.name == "session_service.audit"]
    assert minted.getMessage() == "token.minted"
    assert vars(minted).items() >= {
        "credential_id": "all", "session": url.rpartition("/")[2], "user": ANN, "scopes": READ
    }.items()  # fmt: skip
    assert vars(refused).items() >= {
        "credential_kind": "session", "credential_id": "all", "credential_name": "the name of all"
    }.items()  # fmt: skip
    assert not [each for each in caplog.records if token[-43:] in str(vars(each))]


async def test_a_stream_takes_the_token_in_its_query(client: Client) -> None:
    """An EventSource sends ?token=; no other request may, and no other credential."""
    url = await create(client)
    token = (await mint(client, url, ["events:read", "sessions:read"]))["token"]
    async with client.get(f"{url}/events?token={token}") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
    for path in (
        f"{url}?token={token}",
        f"{url}/events?token={token}A",
        f"{url}/events?token=ann",
        f"{url}/events?token=all",
        f"{url}/events",
    ):
        await assert_error(await client.get(path), 401, "UNAUTHORIZED")
    both = await client.get(f"{url}/events?token={token}", headers=bearer(token))
    await assert_error(both, 400, "VALIDATION_ERROR")
    everything = await client.get(f"/api/messaging/events?token={token}")
    await assert_error(everything, 403, "FORBIDDEN")


async def test_the_document_has_the_route(client: Client) -> None:
    """A service that mints tokens says how, and that the route takes no Idempotency-Key."""
    document = await (await client.get("/openapi.json")).json()
    operation = document["paths"][f"{SESSIONS}/{{sessionId}}/tokens"]["post"]
    assert operation["operationId"] == "createSessionToken"
    assert [each["name"] for each in operation["parameters"]] == ["sessionId"]
    assert {"201", "400", "404", "410"} <= operation["responses"].keys()


class TestRetained:
    """Conversations that are retained after their sessions are over."""

    @pytest.fixture
    def history_ms(self) -> int:
        return 60_000

    async def test_a_token_does_not_read_what_is_left_of_its_session(self, client: Client) -> None:
        """Once its session has ended, the session and its conversation do not exist for it."""
        url = await create(client)
        token = (await mint(client, url, ["sessions:read", "messages:read"]))["token"]
        retained = f"/api/messaging/channels/{url.rpartition('/')[2]}/messages"
        assert await status(client, "all", url, "DELETE") == 200
        assert await status(client, "ann", retained) == 200
        for path in (url, f"{url}/messages", retained):
            assert await status(client, token, path) == 404


class TestWithout:
    """A service without SESSION_TOKEN_SECRET, with and without access control."""

    @pytest.fixture(params=[True, False], ids=["on", "off"])
    def service(self, store: Store, request: pytest.FixtureRequest) -> AppState:
        return app_state(store, access=KnownCredentials() if request.param else None)

    async def test_the_route_does_not_exist(self, client: Client) -> None:
        """It answers as any unknown path does, and is not in the document."""
        url = await create(client)
        for method in ("POST", "GET", "OPTIONS"):
            answers = []
            for path in ("tokens", "nothing"):
                async with client.request(
                    method, f"{url}/{path}", json={"scopes": READ}, headers=bearer("all")
                ) as response:
                    own = ("Date", "X-Request-ID")
                    fields = {n: v for n, v in response.headers.items() if n not in own}
                    answers.append((response.status, fields, await response.text()))
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
        document = await (await client.get("/openapi.json")).text()
        assert "/tokens" not in document
        assert "SessionToken" not in document
