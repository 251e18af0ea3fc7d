"""``/api/messaging/webhooks``: endpoints that receive events."""

from typing import Any

import pytest

from session_service.composition import Store
from session_service.domain.signing import read_secret
from session_service.domain.times import iso
from session_service.domain.webhooks import MAX_WEBHOOKS, Target, WebhookPolicy, settings_id
from session_service.store.webhooks.registry import Webhooks
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import ID, another_node, new_uuid, own_key

WEBHOOKS = "/api/messaging/webhooks"
URL = "https://hooks.example/sessions?key=hush"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the specification


async def register(client: Client, **fields: Any) -> dict[str, Any]:
    response = await client.post(WEBHOOKS, json={"url": URL, **fields})
    assert response.status == 201, await response.text()
    webhook: dict[str, Any] = await response.json()
    assert response.headers["Location"] == f"webhooks/{webhook['webhookId']}"
    return webhook


async def test_an_endpoint_is_registered_with_a_secret_of_its_own(client: Client) -> None:
    """The secret is in the response to the registration, and nowhere else."""
    webhook = await register(client)
    assert len(read_secret(webhook.pop("secret"))) == 32
    assert {**webhook, "webhookId": "", "createdAt": ""} == {
        "webhookId": "",
        "url": URL,
        "types": None,
        "userId": None,
        "agentId": None,
        "createdAt": "",
        "status": "active",
        "fromSettings": False,
        "queued": 0,
        "dead": 0,
        "dropped": 0,
    }
    one = await client.get(f"{WEBHOOKS}/{webhook['webhookId']}")
    assert (one.status, await one.json()) == (200, webhook)
    every = await client.get(WEBHOOKS)
    assert (every.status, await every.json()) == (200, {"webhooks": [webhook]})


async def test_what_is_asked_for_is_kept(client: Client) -> None:
    """A secret, types in either form, and ids in either case are stored."""
    user, agent = new_uuid(), new_uuid()
    webhook = await register(
        client,
        secret=SECRET,
        types=["ended", "session.created"],
        userId=user.upper(),
        agentId=agent,
    )
    assert webhook["secret"] == SECRET
    assert webhook["types"] == ["session.created", "session.ended"]
    assert (webhook["userId"], webhook["agentId"]) == (user, agent)


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"url": "ftp://hooks.example/"}, "url", "http:// or https://"),
        ({"url": 5}, "url", "not a number"),
        ({"url": "http://127.0.0.1:9/"}, "url", "SESSION_WEBHOOKS_ALLOW_NETWORKS"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "url", "SESSION_WEBHOOKS_ALLOW_NETWORKS"),
        ({"url": "https://a:hush@hooks.example/"}, "url", "without a user name"),
        ({"secret": "hush"}, "secret", "whsec_ and 24 to 64 bytes in base64"),
        ({"types": []}, "types", "one or more of created, message"),
        ({"types": ["created", "born"]}, "types", "one or more of created, message"),
        ({"types": "created"}, "types", "not a string"),
        ({"userId": "me"}, "userId", "a UUID"),
        ({"url": None}, "url", "not null"),
    ],
)
async def test_what_is_not_allowed_is_told(
    client: Client, fields: dict[str, Any], field: str, allowed: str
) -> None:
    """The message names the field and the allowed values, and contains no secret."""
    response = await client.post(WEBHOOKS, json={"url": URL, **fields})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["details"] == field
    assert allowed in error["message"]
    assert "hush" not in error["message"]


async def test_a_url_is_required(client: Client) -> None:
    """The message describes a valid URL."""
    response = await client.post(WEBHOOKS, json={})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith("url is required: it must be an http:// or https:// URL")


async def test_there_is_a_bound(client: Client, webhooks: Webhooks) -> None:
    """Beyond the limit a registration is a 409."""
    for _ in range(MAX_WEBHOOKS):
        await register(client)
    response = await client.post(WEBHOOKS, json={"url": URL})
    await assert_error(response, 409, "TOO_MANY_WEBHOOKS")
    assert len(await webhooks.list_all()) == MAX_WEBHOOKS


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/dead"), ("POST", "/dead/replay"), ("POST", "/rotate")],
)
@pytest.mark.parametrize("webhook_id", [ID, "version", "x"])
async def test_an_unknown_one_is_not_found(
    client: Client, method: str, path: str, webhook_id: str
) -> None:
    """An unknown id of any form is a 404."""
    body: Any = {} if method == "POST" else None
    response = await client.request(method, f"{WEBHOOKS}/{webhook_id}{path}", json=body)
    await assert_error(response, 404, "WEBHOOK_NOT_FOUND")


async def test_its_id_is_taken_in_upper_case(client: Client) -> None:
    """An id in upper case is accepted."""
    url = f"{WEBHOOKS}/{(await register(client))['webhookId'].upper()}"
    responses = [await client.request(method, url) for method in ("GET", "DELETE", "GET")]
    assert [response.status for response in responses] == [200, 200, 404]


async def test_a_removed_one_is_gone(client: Client) -> None:
    """A webhook is removed once; then it is a 404."""
    url = f"{WEBHOOKS}/{(await register(client))['webhookId']}"
    response = await client.delete(url)
    assert (response.status, await response.json()) == (200, {"message": "Webhook removed"})
    await assert_error(await client.delete(url), 404, "WEBHOOK_NOT_FOUND")
    await assert_error(await client.get(url), 404, "WEBHOOK_NOT_FOUND")


class TestRotate:
    """Rotation of the secret."""

    async def test_the_last_secret_is_used_beside_the_new_one(
        self, client: Client, webhooks: Webhooks
    ) -> None:
        """The previous secret stays valid for a day by default; nothing else changes."""
        before = await register(client, types=["ended"])
        response = await client.post(f"{WEBHOOKS}/{before['webhookId']}/rotate", json={})
        assert response.status == 200, await response.text()
        rotated = await response.json()
        assert rotated["secret"] not in {before["secret"], ""}
        webhook = await webhooks.get(before["webhookId"])
        target = webhook.target
        assert (target.secret, target.previous_secret) == (rotated["secret"], before["secret"])
        hours = ((webhook.overlap_until or 0) - webhook.created_at) / 3_600_000
        assert 24 <= hours < 24.1
        assert rotated["previousSecretUntil"] == iso(webhook.overlap_until or 0)
        assert target.filter.types == frozenset(("ended",))
        assert webhook.is_enabled

    async def test_the_secret_and_the_overlap_can_be_chosen(
        self, client: Client, webhooks: Webhooks
    ) -> None:
        """An overlap of 0 hours ends the previous secret at once; two are never kept."""
        webhook_id = (await register(client))["webhookId"]
        for overlap in (1.5, 0):
            response = await client.post(
                f"{WEBHOOKS}/{webhook_id}/rotate", json={"secret": SECRET, "overlapHours": overlap}
            )
            assert (response.status, (await response.json())["secret"]) == (200, SECRET)
        webhook = await webhooks.get(webhook_id)
        assert webhook.target.previous_secret == SECRET
        assert webhook.signatures("1-3f-0", webhook.overlap_until or 0, b"").count("v1,") == 1

    @pytest.mark.parametrize(
        ("fields", "field"),
        [({"secret": "hush"}, "secret"), ({"overlapHours": 169}, "overlapHours"),
         ({"overlapHours": -1}, "overlapHours"), ({"overlapHours": "1"}, "overlapHours")],
    )  # fmt: skip
    async def test_what_is_not_allowed_is_told(
        self, client: Client, fields: dict[str, Any], field: str
    ) -> None:
        """The message names the field, and nothing changes."""
        webhook = await register(client)
        path = f"{WEBHOOKS}/{webhook['webhookId']}/rotate"
        error = await assert_error(await client.post(path, json=fields), 400, "VALIDATION_ERROR")
        assert error["details"] == field
        assert "hush" not in error["message"]

    async def test_one_of_the_settings_is_rotated_there(self, client: Client, store: Store) -> None:
        """Rotating an endpoint of the settings is refused, and the message names the setting."""
        policy = WebhookPolicy(endpoints=(Target(URL, SECRET),))
        await another_node(store, webhooks=policy).webhooks.adopt_settings()
        path = f"{WEBHOOKS}/{settings_id(URL)}/rotate"
        error = await assert_error(await client.post(path, json={}), 400, "VALIDATION_ERROR")
        assert "SESSION_WEBHOOKS" in error["message"]
        assert "previousSecret" in error["message"]


async def test_an_id_is_taken_in_either_case(client: Client) -> None:
    """Every operation accepts ids in upper case."""
    webhook_id = (await register(client))["webhookId"]
    url = f"{WEBHOOKS}/{webhook_id.upper()}"
    for method, path in (
        ("GET", ""), ("GET", "/dead"), ("POST", "/dead/replay"), ("POST", "/rotate"), ("DELETE", "")
    ):  # fmt: skip
        body: Any = {} if method == "POST" else None
        response = await client.request(method, url + path, json=body)
        assert response.status == 200, await response.text()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", f"/{ID}", "DELETE, GET, HEAD, OPTIONS"),
        ("DELETE", f"/{ID}/dead", "GET, HEAD, OPTIONS"),
        ("GET", f"/{ID}/dead/replay", "OPTIONS, POST"),
    ],
)
async def test_an_unknown_method_tells_the_known(
    client: Client, method: str, path: str, allowed: str
) -> None:
    """An unknown method is a 405 with Allow."""
    response = await client.request(method, WEBHOOKS + path)
    await assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path", [f"{WEBHOOKS}/", f"{WEBHOOKS}/{ID}/renew", f"{SESSIONS}/{ID}/dead"]
)
async def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    """Paths of sessions do not exist for webhooks, and vice versa."""
    await assert_error(await client.get(path), 404, "NOT_FOUND")


class TestDeadLetters:
    """Deliveries that were given up."""

    @pytest.fixture
    def webhook_policy(self) -> WebhookPolicy:
        return WebhookPolicy(retry_ms=0)

    @pytest.fixture
    async def dead(self, client: Client, webhooks: Webhooks, store: Store) -> str:
        """Return the path of the dead letters of a webhook that has three."""
        webhook_id: str = (await register(client))["webhookId"]
        await webhooks.list_all()
        for _ in range(3):
            await create(client)
        batches = await store.consumer.next(0)
        await webhooks.queues.enqueue(webhook_id, [entry for b in batches for entry in b.entries])
        for delivery in (await webhooks.queues.claim(webhook_id, 10)).deliveries:
            await webhooks.queues.record_result(webhook_id, delivery, "HTTP_503")
        return f"{WEBHOOKS}/{webhook_id}/dead"

    async def test_they_can_be_read(self, client: Client, dead: str) -> None:
        """Dead letters have the event and the reason of the last failure."""
        page = await (await client.get(dead)).json()
        assert (len(page["deadLetters"]), page["total"]) == (3, 3)
        letter = page["deadLetters"][0]
        assert letter["event"]["type"] == "session.created"
        assert letter["event"]["id"] == letter["id"]
        assert (letter["attempts"], letter["lastFailure"]) == (1, "HTTP_503")
        rest = await (await client.get(dead, params={"offset": 1, "limit": 1})).json()
        assert rest == {"deadLetters": page["deadLetters"][1:2], "total": 3}
        info = await (await client.get(dead.removesuffix("/dead"))).json()
        assert (info["queued"], info["dead"]) == (0, 3)

    async def test_all_are_put_back(self, client: Client, dead: str) -> None:
        """All dead letters are replayed once."""
        for expected in (3, 0):
            response = await client.post(f"{dead}/replay", json={})
            assert (response.status, await response.json()) == (200, {"replayed": expected})
        info = await (await client.get(dead.removesuffix("/dead"))).json()
        assert (info["queued"], info["dead"]) == (3, 0)

    async def test_some_are_put_back(self, client: Client, dead: str) -> None:
        """The named dead letters that exist are replayed."""
        letters = (await (await client.get(dead)).json())["deadLetters"]
        ids = [letters[1]["id"], "1764000000000-3f-0"]
        response = await client.post(f"{dead}/replay", json={"ids": ids})
        assert await response.json() == {"replayed": 1}
        left = await (await client.get(dead)).json()
        assert [each["id"] for each in left["deadLetters"]] == [letters[0]["id"], letters[2]["id"]]

    @pytest.mark.parametrize(
        ("params", "field"), [({"limit": "0"}, "limit"), ({"offset": "-1"}, "offset")]
    )
    async def test_a_page_has_bounds(
        self, client: Client, dead: str, params: dict[str, str], field: str
    ) -> None:
        """A page beyond the bounds is refused, and the message names the field."""
        error = await assert_error(await client.get(dead, params=params), 400, "VALIDATION_ERROR")
        assert error["details"] == field


class TestDamagedQueue:
    """A webhook's queue has a key of a wrong type."""

    async def test_the_others_are_listed_and_it_can_be_deleted(
        self, client: Client, redis: Any
    ) -> None:
        """The list names the damaged webhook; reading its queue is a 503."""
        bad, good = (await register(client))["webhookId"], (await register(client))["webhookId"]
        await redis.set(own_key("queue", bad), "x", ex=60)
        found = (await (await client.get(WEBHOOKS)).json())["webhooks"]
        assert {each["webhookId"]: each["status"] for each in found} == {
            bad: "unreadable",
            good: "active",
        }
        response = await client.get(f"{WEBHOOKS}/{bad}")
        await assert_error(response, 503, "RECORD_UNREADABLE")
        assert "Retry-After" not in response.headers
        assert (await client.delete(f"{WEBHOOKS}/{bad}")).status == 200
        assert await redis.keys("*queue*") == []
