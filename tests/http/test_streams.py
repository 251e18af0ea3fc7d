"""Streams of server-sent events (issue 5, "Server-sent events")."""

import asyncio
import json
import re
import socket
from contextlib import suppress
from typing import Any

import pytest

from session_service.domain.errors import RateLimited, RecordUnreadable
from session_service.domain.timeouts import TimeoutPolicy
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from session_service.web.http import protocol, transfers
from session_service.web.http.errors import NotReady, Overloaded
from session_service.web.http.state import AppState
from session_service.web.streaming import sse as streams
from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import ID, create_session, new_uuid
from tests.support.sse import EVENTS, Source, follow
from tests.support.waiting import a_moment_later, wait_until

pytestmark = pytest.mark.usefixtures("begun")


async def follow_new_session(client: Client) -> tuple[str, Source]:
    """Create a session and follow it; return its URL and its stream."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    await a_moment_later()  # a stream starts with the millisecond of its request
    source = await follow(client, f"{url}/events")
    return url, source


async def test_a_session_is_followed_to_its_end(client: Client) -> None:
    """Each event comes once, in order, with its data; the stream ends with the session."""
    session = await create(client, timeoutConfig={"autoRenew": False})
    url = f"{SESSIONS}/{session['sessionId']}"
    await a_moment_later()
    source = await follow(client, f"{url}/events")
    renewed = await (await client.post(f"{url}/renew")).json()
    sent = await (await client.post(f"{url}/messages", json={"content": "secret"})).json()
    change = await (await client.patch(f"{url}/timeout", json={"timeoutMinutes": 60})).json()
    await create(client)
    await client.delete(url)
    events = {each.name: each for each in await source.rest()}
    assert list(events) == [
        "session.renewed",
        "session.message",
        "session.updated",
        "session.ended",
    ]
    owner = {name: session[name] for name in ("sessionId", "userId", "agentId")}
    assert {name: each.data["data"] for name, each in events.items()} == {
        "session.renewed": {
            **owner,
            "expiresAt": renewed["expiresAt"],
            "renewalCount": 1,
        },
        "session.message": {
            **owner,
            "messageId": sent["id"],
            "authorId": session["userId"],
            "isAgent": False,
            "createdAt": sent["createdAt"],
        },
        "session.updated": {
            **owner,
            "expiresAt": change["expiresAt"],
            "timeoutConfig": change["timeoutConfig"],
            "changed": "timeout",
        },
        "session.ended": owner,
    }
    for name, each in events.items():
        assert (each.data["type"], each.data["id"], each.subject) == (
            name,
            each.id,
            session["sessionId"],
        )
    assert "secret" not in str(events)
    await assert_error(await client.get(f"{url}/events"), 404, "SESSION_NOT_FOUND")


async def test_a_stream_says_what_it_is(client: Client) -> None:
    """A stream forbids caching, and starts with its retry time and position."""
    _, source = await follow_new_session(client)
    headers = source.response.headers
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert "X-Request-ID" in headers
    await wait_until(lambda: source.response.content.total_bytes, description="the opening")
    head = (await source.response.content.readuntil(b"\n\n")).decode()
    assert re.fullmatch(r"retry: [123]\d{3}\nid: \d+-ff-\d+\nevent: position\ndata: {}\n\n", head)
    response = await client.head(EVENTS)
    assert (response.status, await response.read()) == (200, b"")


async def test_events_are_filtered(client: Client) -> None:
    """By user, by agent, and by types, which may be repeated or separated by commas."""
    user, agent = new_uuid(), new_uuid()
    sources = [
        await follow(client, EVENTS, userId=user.upper()),
        await follow(client, EVENTS, agentId=agent),
        await follow(client, EVENTS, type="session.ended,renewed", userId=user),
        await follow(client, f"{EVENTS}?type=ended&type=created,message&agentId={agent}"),
    ]
    matching = (await create(client, userId=user, agentId=agent))["sessionId"]
    for session_id in (matching, (await create(client))["sessionId"]):
        await client.post(f"{SESSIONS}/{session_id}/renew")
        await client.delete(f"{SESSIONS}/{session_id}")
    life = ["session.created", "session.renewed", "session.ended"]
    for source, expected in zip(sources, (life, life, life[1:], life[::2]), strict=True):
        events = await source.take(len(expected))
        assert [(each.name, each.subject) for each in events] == [
            (name, matching) for name in expected
        ]


@pytest.mark.parametrize("by", ["header", "query"])
async def test_a_stream_is_resumed_where_it_was_left(client: Client, by: str) -> None:
    """A stream resumed after any of its events delivers the rest, without repetition."""
    url, source = await follow_new_session(client)
    for _ in range(9):
        await client.post(f"{url}/renew")
    events = await source.take(9)
    for n, each in enumerate(events):
        if by == "header":  # the newer one, as an EventSource keeps its URL
            again = await follow(client, f"{url}/events", each.id, lastEventId=events[0].id)
        else:
            again = await follow(client, f"{url}/events", lastEventId=each.id)
        assert await again.take(len(events) - n - 1) == events[n + 1 :]
        again.response.close()


async def test_who_was_away_hears_of_the_end(client: Client) -> None:
    """With Last-Event-ID the last events of an ended session arrive; then it is a 404."""
    url, source = await follow_new_session(client)
    await client.post(f"{url}/renew")
    (seen,) = await source.take(1)
    source.response.close()
    await client.delete(url)
    again = await follow(client, f"{url}/events", seen.id)
    (ended,) = await again.rest()
    assert ended.name == "session.ended"
    for last_id in (ended.id, "1-00-0", ""):
        response = await client.get(f"{url}/events", headers={"Last-Event-ID": last_id})
        await assert_error(response, 404, "SESSION_NOT_FOUND")


@pytest.mark.parametrize("last_id", ["1-00-0", "99999999999999-00-0"])
async def test_what_cannot_be_resumed_is_reset(client: Client, last_id: str) -> None:
    """A position that cannot be resumed gets a reset, and then all later events."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    await a_moment_later()
    for path in (EVENTS, f"{url}/events"):
        source = await follow(client, path, last_id)
        (reset,) = await source.take(1)
        assert reset.name == "reset"
        assert "read the sessions again" in reset.data["message"]
        await client.post(f"{url}/renew")
        (events,) = await source.take(1)
        assert events.name == "session.renewed"
        again = await follow(client, path, reset.id)
        assert await again.take(1) == [events]


@pytest.mark.parametrize("last_id", ["x", "1764000000000", "1764000000000-0", "1-3f-x"])
@pytest.mark.parametrize("by", ["header", "query"])
async def test_an_id_of_no_event_is_refused(client: Client, last_id: str, by: str) -> None:
    """A malformed Last-Event-ID is a 400 before the stream starts."""
    session = await create(client)
    for path in (EVENTS, f"{SESSIONS}/{session['sessionId']}/events"):
        options: dict[str, Any] = {"params": {"lastEventId": last_id}}
        if by == "header":
            options = {"headers": {"Last-Event-ID": last_id}}
        error = await assert_error(await client.get(path, **options), 400, "VALIDATION_ERROR")
        assert error["message"].startswith("lastEventId must be the id of an event, such as ")


@pytest.mark.parametrize(
    ("query", "field"),
    [("type=x", "type"), ("type=", "type"), ("type=ended,", "type"), ("userId=1", "userId")],
)
async def test_a_filter_that_cannot_be_is_refused(client: Client, query: str, field: str) -> None:
    """A bad filter is a 400 with the field and the allowed values."""
    response = await client.get(f"{EVENTS}?{query}")
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(field)


@pytest.mark.parametrize("session_id", [ID, "no-session", "3F2504E0-4F89-41D3-9A0C-0305E82C3301"])
async def test_no_session_has_no_stream(client: Client, session_id: str) -> None:
    """A stream of a missing session is a 404."""
    response = await client.get(f"{SESSIONS}/{session_id}/events")
    await assert_error(response, 404, "SESSION_NOT_FOUND")


class TestWithShortTimeouts:
    """Sessions that last about a second."""

    @pytest.fixture
    def policy(self) -> TimeoutPolicy:
        return TimeoutPolicy(min_timeout=0.0005, max_timeout=60, default_warning=0.015)

    async def test_warning_and_expiry_are_told(self, client: Client, deadlines: Deadlines) -> None:
        """Warning and expiry arrive, the stream ends, and a new one is a 410."""
        session = await create(client, timeoutConfig={"timeoutMinutes": 0.02})
        url = f"{SESSIONS}/{session['sessionId']}/events"
        source = await follow(client, url)
        rest = asyncio.create_task(source.rest())

        async def is_over() -> bool:
            await deadlines.sweep()
            return rest.done()

        await wait_until(is_over)
        *_, warned, expired = await rest
        assert (warned.name, warned.data["data"]["minutesRemaining"]) == ("session.expiring", 1)
        assert warned.data["data"]["expiresAt"] == session["expiresAt"]
        assert (expired.name, expired.data["data"]["expiredAt"]) == (
            "session.expired",
            session["expiresAt"],
        )
        await assert_error(await client.get(url), 410, "SESSION_EXPIRED")


async def test_a_quiet_stream_has_heartbeats(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats have the current position, from which the stream can be resumed."""
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    url, source = await follow_new_session(client)
    reading = asyncio.create_task(source.rest())
    await wait_until(lambda: source.positions >= 3, description="two heartbeats")
    reached = source.last_id
    await client.delete(url)
    events = await reading
    again = await follow(client, f"{url}/events", reached)
    assert await again.rest() == events[-1:]


async def test_streams_end_when_the_service_stops(client: Client, service: AppState) -> None:
    """Streams end at once, with a retry time; requests in flight do not wait for them."""
    _, source = await follow_new_session(client)
    everything = await follow(client, EVENTS)
    stopping = asyncio.create_task(service.drain(10, lambda: False))
    for each in (source, everything):
        await each.rest()
        assert "reconnect with Last-Event-ID" in each.comments[-1]
    await stopping
    late = await follow(client, EVENTS)
    assert await late.rest() == []


@pytest.mark.parametrize(
    ("error", "retry_seconds"),
    [
        (Overloaded(), (5, 15)),
        (NotReady(), (1, 3)),
        (RateLimited("", 20), (20, 23)),
        (RecordUnreadable(), (1, 3)),
        (RuntimeError("a defect"), (1, 3)),
    ],
)
async def test_what_may_succeed_later_is_no_error(
    client: Client,
    service: AppState,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    retry_seconds: tuple[int, int],
) -> None:
    """A temporary failure ends the stream with a reason and a retry time."""

    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(service.feed, "subscribe", fail)
    source = await follow(client, EVENTS)
    assert await source.rest() == []
    least, most = (1000 * seconds for seconds in retry_seconds)
    assert least <= source.retry <= most
    assert source.comments[0].endswith("; reconnect with Last-Event-ID")


async def test_streams_of_an_address_catch_up_in_turn(client: Client, service: AppState) -> None:
    """A third stream of an address waits until another has caught up."""
    _, source = await follow_new_session(client)
    await wait_until(lambda: source.response.content.total_bytes, description="the opening")
    turns = service.feed.catch_up_slots.hold("127.0.0.1")
    async with turns, service.feed.catch_up_slots.hold("127.0.0.1"):
        late = asyncio.create_task(follow(client, EVENTS))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 0.1)
    assert (await late).response.status == 200


async def test_an_overloaded_node_ends_streams_at_once(client: Client, service: AppState) -> None:
    """An overloaded node ends a stream before it reads anything, with a position."""
    for _ in range(2001):
        service.admission.request_begins()
    source = await follow(client, EVENTS)
    assert await source.rest() == []
    assert (source.last_id, source.positions) == ("", 1)


async def test_every_block_has_data(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening, heartbeat, event, reset and farewell have data, which some clients parse."""
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    response = await client.get(f"{url}/events", headers={"Last-Event-ID": "1-00-0"})
    read = b""
    while read.count(b"event: position") < 3:
        read += await response.content.readany()
    await client.post(f"{url}/renew")
    await client.server.service.drain(0, lambda: False)  # type: ignore[attr-defined]  # our own server
    blocks = (read + await response.content.read()).removesuffix(b"\n\n").split(b"\n\n")
    names = [re.findall(rb"^event: (\S+)$", block, re.MULTILINE) for block in blocks]
    assert {b"position", b"reset"} <= {name for (name,) in names}
    assert b"the service stops" in blocks[-1]
    for block in blocks:
        (data,) = re.findall(rb"^data: (.*)$", block, re.MULTILINE)
        assert isinstance(json.loads(data), dict)


async def test_a_client_that_goes_leaves_nothing(client: Client, service: AppState) -> None:
    """After a client disconnects, the store is no longer read for it."""
    for _ in range(3):
        _, source = await follow_new_session(client)
        source.response.close()
    await wait_until(lambda: service.feed.subscribers == 0, description="the feed is not read")


@pytest.mark.parametrize("store_url", ["valkey"], indirect=True)
@pytest.mark.parametrize("reads_late", [True, False])
async def test_a_client_that_does_not_read_is_cut(
    client: Client,
    repository: SessionRepository,
    service: AppState,
    monkeypatch: pytest.MonkeyPatch,
    reads_late: bool,
) -> None:
    """A client that does not read is cut with a farewell, and can resume; others are not."""
    monkeypatch.setattr(transfers, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "FAREWELL_SECONDS", 10 if reads_late else 0)
    other = await follow(client, EVENTS, type="created")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", client.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"event: position\ndata: {}\n\n")
    count = 0
    while service.feed.subscribers == 2:  # a client that does not read cannot see its end
        assert count < 20_000
        await asyncio.gather(*(create_session(repository) for _ in range(100)))
        count += 100
        assert len(await other.take(100)) == 100
    read = b""
    with suppress(ConnectionError):
        while more := await reader.read(100_000):
            read += more
    writer.close()
    assert read.endswith(b"reconnect with Last-Event-ID\n\n") == reads_late
    *_, last_id = re.findall(rb"id: (\S+)\n", read.rpartition(b"\n\nid")[0])
    again = await follow(client, EVENTS, last_id.decode())
    assert len(await again.take(count - read.count(b"\nevent: "))) > 0
