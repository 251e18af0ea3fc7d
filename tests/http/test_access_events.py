"""Access control over events: streams and webhooks (access.md, "Policy")."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from session_service.background.deliveries import deliver_forever
from session_service.composition import Store
from session_service.domain.addresses import EVERYWHERE
from session_service.domain.credentials import ALL_PERMISSIONS
from session_service.domain.webhooks import Target, WebhookPolicy
from session_service.web.http.state import AppState
from tests.support.access import (
    AGENT,
    ANN,
    BOB,
    OTHER_AGENT,
    KnownCredentials,
    by,
    create,
    key,
    page,
    user,
)
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.factories import another_node, shard_key
from tests.support.service import app_state
from tests.support.sse import EVENTS, Source
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

THIRD_AGENT = "e5555555-5555-4555-8555-555555555555"
UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
VARYING = ("Date", "X-Request-ID")  # fields of responses


@pytest.fixture
def access() -> KnownCredentials:
    access = KnownCredentials()
    access.known["pair"] = key("pair", frozenset((AGENT, OTHER_AGENT)))
    return access


@pytest.fixture
def service(store: Store, access: KnownCredentials) -> AppState:
    return app_state(store, access=access)


async def end(client: Client, session_id: str) -> None:
    assert (await client.delete(f"{SESSIONS}/{session_id}", headers=by("all"))).status == 200


async def follow(client: Client, name: str, path: str, last_id: str = "", **query: Any) -> Source:
    """Open a stream with a credential, and read its first block: it has all events from then on."""
    headers = by(name) | ({"Last-Event-ID": last_id} if last_id else {})
    response = await client.get(path, params=query, headers=headers)
    assert response.status == 200, await response.text()
    return Source(response)


@pytest.mark.usefixtures("begun")
class TestStreams:
    """Streams of events."""

    @pytest.mark.parametrize(
        ("name", "query", "expected"),
        [
            ("all", {}, [0, 1, 2, 3]),
            ("ann", {}, [0, 1]),
            ("ann", {"userId": ANN.upper()}, [0, 1]),
            ("ann", {"agentId": OTHER_AGENT}, [1]),
            ("bound", {}, [0, 2]),
            ("bound", {"userId": BOB}, [2]),
            ("pair", {}, [0, 1, 2]),
            ("pair", {"agentId": AGENT, "userId": BOB}, [2]),
        ],
    )
    async def test_a_stream_has_only_events_of_visible_sessions(
        self, client: Client, name: str, query: dict[str, str], expected: list[int]
    ) -> None:
        """Now and after a resumption, whatever the filter, events of others are left out."""
        start = await follow(client, "all", EVENTS)
        source = await follow(client, name, EVENTS, **query)
        made = [
            await create(client, *each)
            for each in ((ANN, AGENT), (ANN, OTHER_AGENT), (BOB, AGENT), (BOB, THIRD_AGENT))
        ]
        for session_id in made:
            await end(client, session_id)
        every = await start.take(8)
        visible = [e.id for e in every if made.index(e.subject) in expected]
        assert [event.id for event in await source.take(len(visible))] == visible
        missed = [event_id for event_id in visible if event_id != every[0].id]
        resumed = await follow(client, name, EVENTS, every[0].id, **query)
        assert [event.id for event in await resumed.take(len(missed))] == missed

    @pytest.mark.parametrize(
        ("name", "query"),
        [("ann", {"userId": BOB}), ("bound", {"agentId": OTHER_AGENT}), ("pair", {"agentId": BOB})],
    )
    async def test_naming_another_is_forbidden(
        self, client: Client, name: str, query: dict[str, str]
    ) -> None:
        """Another user or agent in the filter is a 403."""
        response = await client.get(EVENTS, params=query, headers=by(name))
        await assert_error(response, 403, "FORBIDDEN")

    @pytest.mark.parametrize("name", ["bob", "other-bound", "other-page"])
    @pytest.mark.parametrize("ended", [False, True])
    async def test_a_resumed_stream_of_another_s_session_reveals_nothing(
        self, client: Client, access: KnownCredentials, name: str, *, ended: bool
    ) -> None:
        """A session of another, live or ended since, is the same 404 as one that never was."""
        access.known["other-page"] = page(await create(client), ANN)
        every = await follow(client, "all", EVENTS)
        session_id = await create(client)
        (created,) = await every.take(1)
        if ended:
            await end(client, session_id)
        answers = []
        for each in (session_id, UNKNOWN):
            headers = by(name) | {"Last-Event-ID": created.id}
            response = await client.get(f"{SESSIONS}/{each}/events", headers=headers)
            fields = {k: v for k, v in response.headers.items() if k not in VARYING}
            answers.append((response.status, fields, await response.text()))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404

    @pytest.mark.parametrize("name", ["all", "ann", "bound", "page"])
    async def test_a_resumed_stream_has_the_end_of_one_s_own_session(
        self, client: Client, access: KnownCredentials, name: str
    ) -> None:
        """Those who saw a session still receive its end if they missed it."""
        every = await follow(client, "all", EVENTS)
        session_id = await create(client)
        access.known["page"] = page(session_id, ANN)
        (created,) = await every.take(1)
        await end(client, session_id)
        path = f"{SESSIONS}/{session_id}/events"
        events = await (await follow(client, name, path, created.id)).rest()
        assert [event.name for event in events] == ["session.ended"]


class TestWebhooks:
    """Webhooks of keys that are bound to agents."""

    @pytest.fixture
    def webhook_policy(self) -> WebhookPolicy:
        return WebhookPolicy(allowed_networks=EVERYWHERE, retry_ms=0)

    @pytest.fixture
    async def receiver(self) -> AsyncIterator[Receiver]:
        receiver = Receiver()
        await receiver.start()
        yield receiver
        await receiver.stop()

    @pytest.fixture
    async def deliveries(self, store: Store) -> AsyncIterator[None]:
        """Deliver events in the background."""
        task = asyncio.create_task(deliver_forever(store.webhooks, store.consumer))
        yield
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])

    @pytest.mark.usefixtures("deliveries")
    async def test_it_gets_events_of_its_agents_only(
        self, client: Client, receiver: Receiver
    ) -> None:
        """Deliveries, queue sizes, dead letters and replays are of the key's agents."""
        webhook = await register(client, "pair", receiver.url)
        assert webhook["agents"] == [AGENT, OTHER_AGENT]
        url = f"{WEBHOOKS}/{webhook['webhookId']}"
        receiver.status = 503
        await create(client, BOB, THIRD_AGENT)
        own = [await create(client, agent=agent) for agent in (AGENT, OTHER_AGENT)]

        async def are_dead() -> bool:
            return bool((await get(client, "pair", url))["dead"] == 2)

        await wait_until(are_dead)
        info = await get(client, "pair", url)
        assert (info["queued"], info["dead"], info["dropped"]) == (0, 2, 0)
        dead = await get(client, "pair", f"{url}/dead")
        assert {each["event"]["subject"] for each in dead["deadLetters"]} == set(own)
        receiver.status = 204
        response = await client.post(f"{url}/dead/replay", json={}, headers=by("pair"))
        assert await response.json() == {"replayed": 2}
        await wait_until(lambda: len(receiver.received) == 2)
        assert set(receiver.received) == set(own)

    @pytest.mark.usefixtures("deliveries")
    async def test_its_filter_may_name_its_agents_only(
        self, client: Client, receiver: Receiver
    ) -> None:
        """A filter by one of the key's agents works, and by another agent is a 403."""
        await register(client, "pair", receiver.url, agentId=AGENT, userId=BOB)
        body = {"url": receiver.url, "agentId": THIRD_AGENT}
        response = await client.post(WEBHOOKS, json=body, headers=by("pair"))
        await assert_error(response, 403, "FORBIDDEN")
        await create(client, ANN)
        await create(client, BOB, OTHER_AGENT)
        own = await create(client, BOB)
        await wait_until(lambda: own in receiver.received)
        assert list(receiver.received) == [own]

    async def test_others_do_not_exist_for_a_bound_key(
        self, client: Client, store: Store, redis: Any
    ) -> None:
        """Webhooks of other keys, of the settings and damaged ones are as unknown, and stay."""
        policy = WebhookPolicy(endpoints=(Target("https://hooks.example/", SECRET),))
        await another_node(store, webhooks=policy).webhooks.adopt_settings()
        damaged = (await register(client, "bound"))["webhookId"]
        await redis.hset(shard_key("webhooks", "00"), damaged, "1 x {}")
        await redis.hset(shard_key("webhooks", "00"), "version", "changed")
        foreign = [
            (await register(client, name, agentId=agent))["webhookId"]
            for name, agent in (("all", AGENT), ("other-bound", None), ("pair", None))
        ]
        (settings,) = [
            each["webhookId"]
            for each in (await get(client, "all", WEBHOOKS))["webhooks"]
            if each["fromSettings"]
        ]
        own = (await register(client, "bound"))["webhookId"]
        listed = (await get(client, "bound", WEBHOOKS))["webhooks"]
        assert [each["webhookId"] for each in listed] == [own]
        requests: tuple[tuple[str, str, Any], ...] = (
            ("GET", "", None),
            ("DELETE", "", None),
            ("POST", "/rotate", {}),
            ("GET", "/dead", None),
            ("POST", "/dead/replay", {}),
            ("POST", "/test", {"type": "created"}),
        )
        for request in requests:
            unknown = await answer(client, "bound", UNKNOWN, request)
            assert unknown[0] == 404
            for webhook_id in (*foreign, settings, damaged):
                assert await answer(client, "bound", webhook_id, request) == unknown
            assert (await answer(client, "bound", own, request))[0] == 200
            if request[0] == "DELETE":
                own = (await register(client, "bound"))["webhookId"]
        every = (await get(client, "all", WEBHOOKS))["webhooks"]
        assert {each["webhookId"] for each in every} == {*foreign, settings, own}

    async def test_keys_with_the_agents_of_another_see_its_webhooks(self, client: Client) -> None:
        """A key sees the webhooks of keys whose agents are among its own, and may end them."""
        webhook_id = (await register(client, "bound"))["webhookId"]
        for name, status in (("other-bound", 404), ("pair", 200), ("all", 200)):
            assert (await answer(client, name, webhook_id, ("GET", "", None)))[0] == status
        assert (await answer(client, "pair", webhook_id, ("DELETE", "", None)))[0] == 200

    async def test_a_rotated_webhook_still_belongs_to_its_agents(self, client: Client) -> None:
        """A new secret changes nothing else."""
        webhook_id = (await register(client, "bound"))["webhookId"]
        assert (await answer(client, "bound", webhook_id, ("POST", "/rotate", {})))[0] == 200
        assert (await get(client, "bound", f"{WEBHOOKS}/{webhook_id}"))["agents"] == [AGENT]

    async def test_users_have_no_webhooks(self, client: Client, access: KnownCredentials) -> None:
        """A user's token with the scope is refused, so no user receives events of others."""
        access.known["eve"] = replace(user(ANN), permissions=ALL_PERMISSIONS)
        webhook_id = (await register(client, "all"))["webhookId"]
        for method, path, body in (
            ("GET", WEBHOOKS, None),
            ("POST", WEBHOOKS, {"url": "https://hooks.example/"}),
            ("GET", f"{WEBHOOKS}/{webhook_id}", None),
            ("DELETE", f"{WEBHOOKS}/{webhook_id}", None),
        ):
            response = await client.request(method, path, json=body, headers=by("eve"))
            await assert_error(response, 403, "FORBIDDEN")


async def register(
    client: Client, name: str, url: str = "https://hooks.example/", **fields: Any
) -> dict[str, Any]:
    body = {"url": url, "secret": SECRET, **fields}
    async with client.post(WEBHOOKS, json=body, headers=by(name)) as response:
        assert response.status == 201, await response.text()
        webhook: dict[str, Any] = await response.json()
        return webhook


async def get(client: Client, name: str, url: str) -> dict[str, Any]:
    async with client.get(url, headers=by(name)) as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
        return body


async def answer(
    client: Client, name: str, webhook_id: str, request: tuple[str, str, Any]
) -> tuple[Any, ...]:
    """Return the status, the fields and the body of a response, without what always differs."""
    method, path, body = request
    url = f"{WEBHOOKS}/{webhook_id}{path}"
    async with client.request(method, url, json=body, headers=by(name)) as response:
        fields = {k: v for k, v in response.headers.items() if k not in VARYING}
        return response.status, fields, await response.text()
