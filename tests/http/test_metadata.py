"""``PATCH /sessions/{sessionId}`` (contract, "Metadata")."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.support.api import SESSIONS, Client, assert_error, create, post
from tests.support.sse import follow
from tests.support.waiting import a_moment_later


async def change(client: Client, url: str, metadata: Any) -> dict[str, Any]:
    """Change the metadata of a session; return the session."""
    response = await client.patch(url, json={"metadata": metadata})
    assert response.status == 200, await response.text()
    info: dict[str, Any] = await response.json()
    return info


async def read(client: Client, url: str) -> dict[str, Any]:
    info: dict[str, Any] = await (await client.get(url)).json()
    return info


async def test_a_change_merges_members(client: Client) -> None:
    """Members are replaced, added and, with null, removed; others stay, and so does their order."""
    metadata = {"plan": "free", "tags": ["a"], "seen": None, "topic": "billing"}
    url = f"{SESSIONS}/{(await create(client, metadata=metadata))['sessionId']}"
    changed = await change(client, url, {"new": 1, "plan": "pro", "topic": None, "none": None})
    expected = [("plan", "pro"), ("tags", ["a"]), ("seen", None), ("new", 1)]
    assert list(changed["metadata"].items()) == expected
    assert list((await read(client, url))["metadata"].items()) == expected


async def test_nested_objects_are_replaced(client: Client) -> None:
    """An object replaces an object as a whole, and a null inside it is a value."""
    metadata = {"page": {"path": "/", "at": 1}, "list": [1]}
    url = f"{SESSIONS}/{(await create(client, metadata=metadata))['sessionId']}"
    changed = await change(client, url, {"page": {"path": None}, "list": []})
    assert changed["metadata"] == {"page": {"path": None}, "list": []}


@pytest.mark.parametrize(
    "json",
    [
        b'{"a":123456789012345678901234567890,"b":1.0,"c":[],"d":{},"e":1e300,"f":-0.0}',
        rb'{"a\"b\\":"}\",\"x\":{\\","":"\\\"","\u0000":"[","b":[{"c":"]"},"\\"]}',
    ],
)
async def test_other_members_keep_their_json(client: Client, json: bytes) -> None:
    """Large numbers, empty arrays, escapes and brackets in strings survive a change beside them."""
    url = f"{SESSIONS}/{(await create(client, metadata=msgspec.json.decode(json)))['sessionId']}"
    before = msgspec.json.decode(await (await client.get(url)).read(), type=dict[str, msgspec.Raw])
    await change(client, url, {"new": 1})
    await change(client, url, {"new": None})
    after = msgspec.json.decode(await (await client.get(url)).read(), type=dict[str, msgspec.Raw])
    assert bytes(after["metadata"]) == bytes(before["metadata"])
    names = dict.fromkeys(msgspec.json.decode(json))
    assert (await change(client, url, names))["metadata"] == {}


async def test_a_change_is_no_activity(client: Client) -> None:
    """Only the metadata differ afterwards: not the deadline, the last activity or any count."""
    session = await create(client, metadata={"a": 1})
    url = f"{SESSIONS}/{session['sessionId']}"
    before = await read(client, url)
    await a_moment_later(2)
    changed = await change(client, url, {"b": {"c": []}})
    same = {"timeRemaining": 0, "metadata": {"a": 1, "b": {"c": []}}}
    assert {**changed, **same} == {**before, **same}
    assert changed["metadata"] == same["metadata"]
    assert changed["timeRemaining"] < before["timeRemaining"]


@pytest.mark.usefixtures("begun")
async def test_a_change_is_an_event(client: Client) -> None:
    """The event ``session.updated`` says that the metadata changed, without their content."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    await a_moment_later()
    source = await follow(client, f"{url}/events")
    await change(client, url, {"secret": "x"})
    (event,) = await source.take(1)
    assert event.name == "session.updated"
    assert event.data["data"] == {
        **{name: session[name] for name in ("sessionId", "userId", "agentId")},
        "expiresAt": session["expiresAt"],
        "timeoutConfig": session["timeoutConfig"],
        "changed": "metadata",
    }


async def test_concurrent_changes_do_not_lose_each_other(client: Client) -> None:
    """Each of 50 members that 50 clients set at once is there afterwards."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    await asyncio.gather(*(change(client, url, {f"m{n}": n}) for n in range(50)))
    assert (await read(client, url))["metadata"] == {f"m{n}": n for n in range(50)}


async def test_the_session_lives_on_with_its_metadata(client: Client) -> None:
    """Heartbeats and messages keep changed metadata, also of sessions without any at first."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}"
    await change(client, url, {"a": 1})
    await post(client, f"{url}/heartbeat")
    await post(client, f"{url}/messages", {"content": "Hello"})
    listed = await read(client, f"{SESSIONS}?userId={session['userId']}")
    assert [each["metadata"] for each in listed["sessions"]] == [{"a": 1}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "metadata is required: it must be an object of at most 10,240 bytes"),
        ({"timeoutMinutes": 60}, "metadata is required"),
        ({"metadata": None}, "metadata must be an object of at most 10,240 bytes"),
        ({"metadata": []}, "metadata must be an object of at most 10,240 bytes"),
        ({"metadata": "{}"}, "metadata must be an object of at most 10,240 bytes"),
        ({"metadata": {"b": "x" * 10_240}}, "metadata must be an object of at most 10,240 bytes"),
        ({"metadata": {"b": "x" * 10_228}}, "metadata must have at most 10,240 bytes as compact"),
    ],
)
async def test_what_cannot_be_merged_is_refused(
    client: Client, body: dict[str, Any], message: str
) -> None:
    """Without an object, or with one that is too large by itself or once merged: a 400."""
    url = f"{SESSIONS}/{(await create(client, metadata={'a': 1}))['sessionId']}"
    error = await assert_error(await client.patch(url, json=body), 400, "VALIDATION_ERROR")
    assert error["message"].startswith(message)
    assert error["details"] == "metadata"
    assert (await read(client, url))["metadata"] == {"a": 1}


async def test_a_body_without_json_is_refused(client: Client) -> None:
    """An empty body, or one that is no object, is a 400."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    headers = {"Content-Type": "application/json"}
    for body in (b"", b"[]", b"null"):
        response = await client.patch(url, data=body, headers=headers)
        await assert_error(response, 400, "INVALID_JSON")


async def test_the_deepest_metadata_can_be_merged(client: Client) -> None:
    """A member nested 62 levels deep is merged; one more level, and the body is refused."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    deepest: Any = []
    for _ in range(61):
        deepest = [deepest]
    assert (await change(client, url, {"a": deepest}))["metadata"] == {"a": deepest}
    response = await client.patch(url, json={"metadata": {"a": [deepest]}})
    await assert_error(response, 400, "INVALID_JSON")
