"""Optional fields of a body: null counts as absent; attachments in either published form."""

from typing import Any

import pytest

from tests.support.api import SESSIONS, Client, assert_error, create, post
from tests.support.factories import ID

NO_TIMEOUTS = dict.fromkeys(
    ("timeoutMinutes", "autoRenew", "maxDurationMinutes", "warningThresholdMinutes")
)


@pytest.fixture
def store_url() -> str:
    """One store, as these tests do not depend on it."""
    return "memory://"


async def test_null_is_absent_when_a_session_is_created(client: Client) -> None:
    """Null fields get the defaults."""
    plain = await create(client)
    for config in (None, NO_TIMEOUTS):
        session = await create(client, metadata=None, timeoutConfig=config)
        assert session["timeoutConfig"] == plain["timeoutConfig"]
        assert session["metadata"] == {}


async def test_null_is_absent_when_the_timeout_is_changed(client: Client) -> None:
    """Null fields stay unchanged."""
    session = await create(client, timeoutConfig={"timeoutMinutes": 20, "autoRenew": False})
    url = f"{SESSIONS}/{session['sessionId']}/timeout"
    response = await client.patch(url, json={**NO_TIMEOUTS, "timeoutMinutes": 25})
    assert (await response.json())["timeoutConfig"] == {
        **session["timeoutConfig"],
        "timeoutMinutes": 25,
    }


async def test_null_is_absent_in_a_message(client: Client) -> None:
    """With nulls a message has no attachments, and the user as its author."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    fields = ("authorId", "metadata", "attachments", "transport", "mode")
    message = await post(client, url, {"content": "x", **dict.fromkeys(fields)})
    assert (message["authorId"], message["metadata"]) == (session["userId"], {})
    assert "attachments" not in message


async def test_null_is_a_value_in_metadata(client: Client) -> None:
    """Null is stored in metadata and attachments."""
    metadata = {"a": None, "b": [None]}
    session = await create(client, metadata=metadata)
    assert session["metadata"] == metadata
    attachments = [{"type": "a", "url": "b", "name": None, "contentType": None, "c": None}]
    body = {"content": "x", "attachments": attachments}
    message = await post(client, f"{SESSIONS}/{session['sessionId']}/messages", body)
    assert message["attachments"] == attachments


async def test_null_is_absent_in_a_webhook(client: Client) -> None:
    """With nulls a webhook gets all events and a generated secret."""
    fields = ("secret", "types", "userId", "agentId")
    body = {"url": "https://hooks.example/", **dict.fromkeys(fields)}
    webhook = await post(client, "/api/messaging/webhooks", body)
    assert (webhook["types"], webhook["userId"], webhook["agentId"]) == (None, None, None)
    assert webhook["secret"].startswith("whsec_")
    url = f"/api/messaging/webhooks/{webhook['webhookId']}/dead/replay"
    assert await post(client, url, {"ids": None}) == {"replayed": 0}


@pytest.mark.parametrize("name", ["agentId", "userId"])
async def test_null_is_no_required_field(client: Client, name: str) -> None:
    """Null in a required field is refused."""
    body = {"agentId": ID, "userId": ID, name: None}
    error = await assert_error(await client.post(SESSIONS, json=body), 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{name} must be a UUID")


@pytest.mark.parametrize("query", [f"?userId=null&agentId={ID}", "?userId=null&all=true"])
async def test_there_is_no_null_in_a_query(client: Client, query: str) -> None:
    """The text "null" is no UUID, so nothing is ended by it."""
    session = await create(client)
    await assert_error(await client.delete(SESSIONS + query), 400, "VALIDATION_ERROR")
    assert (await client.get(f"{SESSIONS}/{session['sessionId']}")).status == 200


@pytest.mark.parametrize(
    "attachment",
    [
        {"id": "1", "url": "https://a.example/b.png", "contentType": "image/png", "title": "b"},
        {"type": "image", "url": "b"},
        {"type": "image", "contentType": "image/png", "url": "b", "name": "n"},
    ],
)
async def test_an_attachment_has_a_type_or_a_content_type(
    client: Client, attachment: dict[str, Any]
) -> None:
    """Both published forms are accepted and returned unchanged."""
    session = await create(client)
    body = {"content": "x", "attachments": [attachment]}
    message = await post(client, f"{SESSIONS}/{session['sessionId']}/messages", body)
    assert message["attachments"] == [attachment]


@pytest.mark.parametrize(
    ("attachments", "field"),
    [
        ([{"url": "b"}], "attachments[0].type or contentType is required"),
        ([{"url": "b", "type": None, "contentType": None}], "attachments[0].type or contentType"),
        ([{"url": "b", "contentType": ""}], "attachments[0].contentType must be a string that"),
        ([{"url": "b", "contentType": 1}], "attachments[0].contentType must be a string that"),
        ([{"url": "b", "type": 1, "contentType": "a/b"}], "attachments[0].type must be a string"),
        ([{"url": None, "type": "a"}], "attachments[0].url is required"),
        ([{"type": "a", "url": "b"}, {"type": "a", "url": "x" * 10_240}], "attachments[1] must"),
        ([{"type": "a", "url": "x" * 10_000}] * 7, "attachments must have at most 65,536 bytes"),
    ],
)
async def test_an_attachment_is_refused(
    client: Client, attachments: list[dict[str, Any]], field: str
) -> None:
    """Attachments without a type, beyond 10 KiB each or 64 KiB together, are refused."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    response = await client.post(url, json={"content": "x", "attachments": attachments})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(field)


async def test_attachments_of_64_kib_are_taken(client: Client) -> None:
    """The largest attachment, and the largest of all together, are accepted."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    largest = {"type": "a", "url": "x" * (10_240 - len('{"type":"a","url":""}'))}
    attachments = [largest] * 6 + [{"type": "a", "url": "x" * 4_000}]
    message = await post(client, url, {"content": "x", "attachments": attachments})
    assert message["attachments"] == attachments
