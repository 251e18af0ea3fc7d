"""Pages end at their limit or at 1 MiB, and the next one starts where they end."""

import asyncio
from itertools import chain, pairwise
from typing import Any
from uuid import UUID

import pytest
import socketio

from session_service.domain.budgets import PAGE_BYTES
from session_service.store.sessions import conversations, paging
from tests.support.api import SESSIONS, Client, create, post
from tests.support.factories import new_uuid
from tests.support.waiting import wait_until

CHANNELS = "/api/messaging/channels"
LARGE = [{"type": "file", "url": "x" * 6000}] * 10  # 60 KB of attachments

Json = dict[str, Any]


@pytest.fixture
def history_ms() -> int:
    return 60_000


async def read(client: Client, url: str, **query: Any) -> Json:
    async with client.get(url, params=query) as response:
        assert response.status == 200, await response.text()
        body: Json = await response.json()
        return body


async def conversation(
    client: Client, messages: list[Json], *, is_over: bool
) -> tuple[str, list[str]]:
    """Create a session with messages; return the path of its history and the message ids."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    ids = [(await post(client, f"{url}/messages", message))["id"] for message in messages]
    if is_over:
        await client.delete(url)
        return f"{CHANNELS}/{session['channelId']}/messages", ids
    return f"{url}/messages", ids


async def pages_of(client: Client, url: str, direction: str, **query: Any) -> list[list[Json]]:
    """Return the messages of all pages, oldest first in each, with the pages in reading order."""
    cursor = {"after": "0"} if direction == "after" else {}
    pages = []
    while True:
        body = await read(client, url, **query, **cursor)
        pages.append(body["messages"][::-1])
        if not body["hasMore"]:
            return pages
        cursor = {direction: body["cursors"][direction]}


def sizes_of(messages: list[Json]) -> list[int]:
    """Return the approximate sizes of messages in the store: large contents, no escapes."""
    return [
        len(m["content"]) + sum(len(a["url"]) for a in m.get("attachments", ())) for m in messages
    ]


@pytest.mark.parametrize("direction", ["before", "after"])
@pytest.mark.parametrize("is_over", [False, True])
async def test_a_page_of_large_messages_ends_at_a_mebibyte(
    client: Client, direction: str, *, is_over: bool
) -> None:
    """Pages are nearly full, never larger than 1 MiB, and contain each message once."""
    sent = [{"content": "x", "attachments": LARGE}] * 40
    url, ids = await conversation(client, sent, is_over=is_over)
    pages = await pages_of(client, url, direction, limit=100)
    totals = [sum(sizes_of(page)) for page in pages]
    assert all(total <= PAGE_BYTES for total in totals)
    assert all(total > 0.9 * PAGE_BYTES for total in totals[:-1])
    in_order = pages if direction == "after" else pages[::-1]
    assert [message["id"] for message in chain(*in_order)] == ids


@pytest.mark.parametrize("budget", [1, 600, 2500, 100_000])
@pytest.mark.parametrize("direction", ["before", "after"])
async def test_a_page_has_at_least_one_message_and_all_that_fit(
    client: Client, monkeypatch: pytest.MonkeyPatch, budget: int, direction: str
) -> None:
    """A page has at least one message and all that fit, and the last hasMore is false."""
    monkeypatch.setattr(conversations, "PAGE_BYTES", budget)
    sent = [{"content": "x" * (1 if n % 7 else 900)} for n in range(43)]
    url, ids = await conversation(client, sent, is_over=False)
    pages = await pages_of(client, url, direction, limit=42)
    in_order = pages if direction == "after" else pages[::-1]
    assert [message["id"] for message in chain(*in_order)] == ids
    assert all(pages)
    for page, following in pairwise(pages):
        added = following[0] if direction == "after" else following[-1]
        assert len(page) == 42 or sum(map(stored_bytes, [*page, added])) > budget
        assert len(page) == 1 or sum(map(stored_bytes, page)) <= budget


def stored_bytes(message: Json) -> int:
    """Return the bytes that the store has of a message without metadata and attachments."""
    return len("1768473045123 u 0 0 ") + len(UUID(message["id"]).bytes) + len(message["content"])


async def list_ids(client: Client, limit: int, user: dict[str, str]) -> list[list[str]]:
    """Return the ids on each page of a listing."""
    body = await read(client, SESSIONS, limit=limit, **user)
    pages = [body["sessions"]]
    while body["nextCursor"]:
        body = await read(client, SESSIONS, limit=limit, cursor=body["nextCursor"], **user)
        pages.append(body["sessions"])
    return [[session["sessionId"] for session in page] for page in pages]


@pytest.mark.parametrize("limit", [40, 1000])
@pytest.mark.parametrize("user", [{}, {"userId": new_uuid()}], ids=["all", "a user"])
async def test_a_page_of_large_sessions_ends_at_a_mebibyte(
    client: Client, limit: int, user: dict[str, str]
) -> None:
    """Pages of a listing end at 1 MiB, and contain each session once."""
    metadata = {"a": "x" * 10_000}
    made = [(await create(client, metadata=metadata, **user))["sessionId"] for _ in range(120)]
    pages = await list_ids(client, limit, user)
    most = min(limit, 103)  # a record has about 10,160 bytes
    assert all(len(page) <= most for page in pages)
    assert all(len(page) >= most - 2 for page in pages[:-1])
    assert sorted(chain(*pages)) == sorted(made)


@pytest.mark.parametrize("user", [{}, {"userId": new_uuid()}], ids=["all", "a user"])
async def test_a_page_of_a_listing_has_at_least_one_session(
    client: Client, monkeypatch: pytest.MonkeyPatch, user: dict[str, str]
) -> None:
    """A page has at least one session, however large."""
    monkeypatch.setattr(paging, "PAGE_BYTES", 1)
    made = [(await create(client, **user))["sessionId"] for _ in range(3)]
    pages = await list_ids(client, 10, user)
    assert [len(page) for page in pages] == [1, 1, 1]
    assert sorted(chain(*pages)) == sorted(made)


async def test_sockets_are_told_every_message_if_a_page_ends_early(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets get all messages of one moment, though several pages are read for them."""
    monkeypatch.setattr(conversations, "PAGE_BYTES", 2000)
    broadcast: list[str] = []
    socket = socketio.AsyncClient(reconnection=False)
    socket.on("messageBroadcast", lambda message: broadcast.append(message["text"]))
    await socket.connect(
        f"http://127.0.0.1:{client.port}", transports=["websocket"], wait_timeout=10
    )
    session_id = (await create(client))["sessionId"]
    await socket.call("join", {"roomId": session_id})
    sent = [f"{n} {'x' * 700}" for n in range(12)]
    url = f"{SESSIONS}/{session_id}/messages"
    await asyncio.gather(*(post(client, url, {"content": content}) for content in sent))
    await wait_until(lambda: len(broadcast) == len(sent))
    assert sorted(broadcast) == sorted(sent)
    await socket.disconnect()
