"""Strict requests: declared bodies, valid JSON, unambiguous queries, whole values."""

import json
import zlib
from typing import Any

import pytest

from tests.support.api import SESSIONS, Client, assert_error, create, send_raw
from tests.support.factories import ID

IDS = f'"agentId": "{ID}", "userId": "{ID}"'
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def store_url() -> str:
    """One store, as these tests do not depend on it."""
    return "memory://"


async def post_refused(client: Client, path: str, body: bytes, code: str) -> dict[str, str]:
    """Post a body that is refused; return the error."""
    return await assert_error(await client.post(path, data=body, headers=JSON), 400, code)


@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}/{ID}/messages", "/api/messaging/webhooks"])
@pytest.mark.parametrize(
    "kind", [None, "text/plain", "text/json", "application/jsonx", "text/plain; application/json"]
)
async def test_a_body_that_is_not_declared_as_json_is_refused(
    client: Client, path: str, kind: str | None
) -> None:
    """Bodies that a foreign page can send without preflight (no-cors) are a 415."""
    body = f'{{{IDS}, "url": "https://hooks.example/", "content": "x"}}'
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {kind}"] * (kind is not None)
    response = await send_raw(client, "\r\n".join([*lines, "Connection: close", "", body]))
    assert response.startswith(b"HTTP/1.1 415 ")
    assert b'"code":"UNSUPPORTED_MEDIA_TYPE"' in response
    assert await (await client.get("/api/messaging/webhooks")).json() == {"webhooks": []}


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON;charset=utf-8", "application/vnd.sessions+json"],
)
async def test_json_may_be_declared_in_several_ways(client: Client, kind: str) -> None:
    """The JSON type may be in any case, with parameters, or a +json type."""
    headers = {"Content-Type": kind}
    response = await client.post(SESSIONS, data=f"{{{IDS}}}", headers=headers)
    assert response.status == 201


async def test_a_request_without_a_body_declares_nothing(client: Client) -> None:
    """A renewal needs no content type; a missing body is an error that says so."""
    session = await create(client)
    response = await client.post(f"{SESSIONS}/{session['sessionId']}/renew")
    assert response.status == 200
    await assert_error(await client.post(SESSIONS), 400, "INVALID_JSON")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x-unknown", "identity, gzip", "GZIP"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("POST", SESSIONS),
        ("POST", f"{SESSIONS}/{ID}/renew"),
        ("POST", "/socket.io/?EIO=4&transport=polling&sid=x"),
        ("GET", "/nothing"),
        ("GET", "/api/messaging/events"),
    ],
)
async def test_a_compressed_body_is_refused(
    client: Client, method: str, path: str, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A compressed body is a 415 that names the accepted codings, on every route."""
    body = zlib.compress(b"0" * 2**20) if coding == "deflate" else b"no such thing"
    headers = {**JSON, "Content-Encoding": coding, "Transfer-Encoding": "chunked"}
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = [f"{method} {path} HTTP/1.1", "Host: x", *map(": ".join, headers.items())]
    response = await send_raw(client, "\r\n".join([*head, "Connection: close", "", ""]), chunked)
    assert response.startswith(b"HTTP/1.1 415 ")
    assert b"Accept-Encoding: identity\r\n" in response
    assert [record for record in caplog.records if record.exc_info] == []


async def test_identity_is_no_compression(client: Client) -> None:
    """The coding "identity" is allowed."""
    headers = {**JSON, "Content-Encoding": "identity"}
    assert (await client.post(SESSIONS, data=f"{{{IDS}}}", headers=headers)).status == 201


def nested(levels: int, *, objects: bool = False) -> str:
    """Return JSON with so many levels of nesting."""
    return '{"a":' * levels + "1" + "}" * levels if objects else "[" * levels + "]" * levels


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("field", ["metadata", "attachments", "unknown"])
async def test_json_may_be_nested_64_levels_deep(
    client: Client, field: str, *, objects: bool
) -> None:
    """JSON may be nested 64 levels deep, the body included, wherever it is."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}/messages"
    around = {
        "metadata": '{"a": %s}',
        "attachments": '[{"type": "a", "url": "b", "c": %s}]',
        "unknown": "[%s]",
    }[field]
    inner = 63 - around.replace("%s", "").count("[") - around.count("{")
    for levels in (inner, inner + 1, 489, 5000):
        body = f'{{"content": "x", "{field}": {around % nested(levels, objects=objects)}}}'.encode()
        if levels == inner:
            assert (await client.post(url, data=body, headers=JSON)).status == 201
        else:
            error = await post_refused(client, url, body, "INVALID_JSON")
            assert "64 levels" in error["details"]


@pytest.mark.parametrize("text", ["[" * 1000, '\\"' * 500 + "[" * 1000, "\\\\" + "{" * 1000])
async def test_brackets_in_strings_are_no_levels(client: Client, text: str) -> None:
    """Brackets in strings are no levels, also after escaped quotes and backslashes."""
    session = await create(client)
    body = f'{{"content": "{text}", "metadata": {{"{text}": "{text}"}}}}'
    response = await client.post(
        f"{SESSIONS}/{session['sessionId']}/messages", data=body.encode(), headers=JSON
    )
    assert response.status == 201
    assert (await response.json())["content"] == json.loads(f'"{text}"')


@pytest.mark.parametrize(
    ("text", "lone"),
    [
        ("a\\ud83d", "\\ud83d"),
        ("\\udc00", "\\udc00"),
        ("\\ud83dx\\udc00", "\\ud83d"),
        ("\\ud83d\\ud83d\\ude00", "\\ud83d"),
        ("\\ud83d\\ude00\\uDE01", "\\uDE01"),
        ("\\\\\\ud83d", "\\ud83d"),
    ],
)
async def test_half_a_surrogate_pair_is_named(client: Client, text: str, lone: str) -> None:
    """Half a surrogate pair in a value or name is an error that shows the escape."""
    for body in (f'{{"content": "{text}"}}', f'{{{IDS}, "metadata": {{"{text}": 1}}}}'):
        error = await post_refused(client, SESSIONS, body.encode(), "INVALID_JSON")
        assert error["details"].startswith(f"A string has {lone} without the other half")


async def test_whole_surrogate_pairs_are_taken(client: Client) -> None:
    """An escaped pair is one character; an escaped backslash begins no escape."""
    session = await create(client)
    response = await client.post(
        f"{SESSIONS}/{session['sessionId']}/messages",
        data=b'{"content": "\\ud83d\\uDE00 \\\\ud83d"}',
        headers=JSON,
    )
    assert (await response.json())["content"] == "\U0001f600 \\ud83d"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 4301, "[0, {}, -1E999]"])
async def test_a_number_out_of_range_is_named(client: Client, number: str) -> None:
    """The error names the number, not the size of its container."""
    cases = {
        "metadata": f'{{"content": "x", "metadata": {{"a": {number}}}}}',
        "attachments[0]": f'{{"content": "x", "attachments": [{{"a": {number}}}]}}',
    }
    for field, body in cases.items():
        error = await post_refused(
            client, f"{SESSIONS}/{ID}/messages", body.encode(), "VALIDATION_ERROR"
        )
        assert error["message"].startswith(f"{field} has a number out of range")


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("DELETE", f"{SESSIONS}?userId={ID}&userId={ID}", "userId"),
        ("DELETE", f"{SESSIONS}?all=true&all=true", "all"),
        ("DELETE", f"{SESSIONS}?all=true&all=false", "all"),
        ("GET", f"{SESSIONS}?limit=5&limit=6", "limit"),
        ("GET", f"{SESSIONS}?userId={ID}&limit=5&limit=5", "limit"),
        ("GET", f"{SESSIONS}?x=1&x=2", "x"),
        ("GET", f"{SESSIONS}/{ID}/messages?before=1&before=2", "before"),
        ("GET", f"/api/messaging/events?type=created&userId={ID}&userId={ID}", "userId"),
        ("GET", f"{SESSIONS}?%00=1&%00=2", "A parameter"),
    ],
)
async def test_a_parameter_may_be_given_once(
    client: Client, method: str, path: str, name: str
) -> None:
    """A repeated parameter is refused, as either value might be meant."""
    session = await create(client)
    error = await assert_error(await client.request(method, path), 400, "VALIDATION_ERROR")
    assert error["message"] == f"{name} must not be given more than once"
    assert (await client.get(f"{SESSIONS}/{session['sessionId']}")).status == 200


async def test_a_list_may_be_given_in_parts(client: Client) -> None:
    """The types of events, a list, may be repeated."""
    response = await client.get("/api/messaging/events?type=created&type=ended,expired")
    assert response.status == 200
    response.close()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (SESSIONS, {"userId": ID + "\n"}),
        (SESSIONS, {"agentId": ID + "\n"}),
        (SESSIONS, {"agentId": "\n" + ID}),
        (f"{SESSIONS}/{ID}/messages", {"authorId": ID + "\n"}),
        ("/api/messaging/webhooks", {"userId": ID + "\n"}),
        ("/api/messaging/webhooks", {"url": "https://hooks.example/\n"}),
        ("/api/messaging/webhooks", {"secret": "whsec_" + "A" * 32 + "\n"}),
        ("/api/messaging/webhooks", {"types": ["created\n"]}),
    ],
)
async def test_a_newline_at_the_end_is_part_of_a_value(
    client: Client, path: str, fields: dict[str, Any]
) -> None:
    """A newline at the end makes a value invalid, although ``$`` matches before it."""
    whole = {"content": "x", "url": "https://hooks.example/"}
    whole |= {"agentId": ID, "userId": ID} if path == SESSIONS else {}
    error = await assert_error(
        await client.post(path, json={**whole, **fields}), 400, "VALIDATION_ERROR"
    )
    assert error["message"].startswith(next(iter(fields)))


@pytest.mark.parametrize(
    "query",
    [
        f"{SESSIONS}?userId={ID}%0A",
        f"{SESSIONS}?agentId={ID}%0A",
        f"{SESSIONS}?cursor=x%0A",
        f"{SESSIONS}?limit=5%0A",
        f"{SESSIONS}/{ID}/messages?before=5%0A",
        f"{SESSIONS}/{ID}/messages?before=2026-01-15T10:30:45Z%0A",
        "/api/messaging/events?type=created%0A",
        "/api/messaging/events?lastEventId=1764000000000-3f-0%0A",
    ],
)
async def test_so_it_is_in_a_query(client: Client, query: str) -> None:
    """A newline at the end of any query parameter is refused."""
    await assert_error(await client.get(query), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "fields",
    [
        {"transport": "bogus"},
        {"transport": 123},
        {"transport": "sync"},
        {"transport": ""},
        {"transport": "HTTP"},
        {"mode": "nonsense"},
        {"mode": "http"},
        {"mode": ["sync"]},
    ],
)
async def test_an_unknown_transport_is_refused(client: Client, fields: dict[str, Any]) -> None:
    """An unknown transport or mode is refused with the list of known ones."""
    session = await create(client)
    url = f"{SESSIONS}/{session['sessionId']}/messages"
    (name,) = fields
    response = await client.post(url, json={"content": "x", **fields})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert error["message"].startswith(f"{name} must be ")
    assert "websocket" in error["message"]
    known = {"transport": ("http", "sse", "websocket"), "mode": ("sync", "stream", "websocket")}
    for value in (*known[name], None):
        assert (await client.post(url, json={"content": "x", name: value})).status == 201
