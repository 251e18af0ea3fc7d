"""Malformed bodies and ids: each gets an error in the one shape, and never a 500."""

import io
import json

import pytest

from tests.support.api import SESSIONS, Client, assert_error, create
from tests.support.factories import ID

IDS = f'"agentId": "{ID}", "userId": "{ID}"'
DEEP = 100_000
DIGITS = "9" * 400

NOT_JSON = [
    b"",
    b"{",
    b"x",
    b"\x00",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf\xef\xbb\xbf{}",
    b"{'a': 1}",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": "\\ud800"}',
    b'{"a": "\x00"}',
    b'{"agentId": "\xff"}',
    b'{"a":' * (DEEP // 3) + b"1" + b"}" * (DEEP // 3),
    b'{"metadata": {"a":' + b"[" * DEEP + b"]" * DEEP + b"}}",
]
NOT_OBJECTS = [b"[]", b"null", b"1", b'"x"', b"true", b"[" * DEEP + b"]" * DEEP, DIGITS.encode()]


@pytest.mark.parametrize("body", NOT_JSON + NOT_OBJECTS, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize("operation", ["create", "timeout", "messages"])
async def test_a_body_that_is_no_json_object_is_refused(
    client: Client, operation: str, body: bytes
) -> None:
    """A body that is no JSON object has an error code of its own."""
    path, method = SESSIONS, "POST"
    if operation != "create":
        path += f"/{(await create(client))['sessionId']}/{operation}"
        method = "PATCH" if operation == "timeout" else "POST"
    headers = {"Content-Type": "application/json"}
    response = await client.request(method, path, data=body, headers=headers)
    error = await assert_error(response, 400, "INVALID_JSON")
    assert "Traceback" not in error["details"]


@pytest.mark.parametrize(
    "number", [DIGITS, f"-{DIGITS}", f"0.{DIGITS}", "1e999", "-1e999", "1e-999"]
)
async def test_huge_numbers_are_out_of_range(client: Client, number: str) -> None:
    """Numbers of 400 digits, and beyond any float, are out of range like any other."""
    body = f'{{{IDS}, "timeoutConfig": {{"timeoutMinutes": {number}}}}}'
    response = await client.post(SESSIONS, data=body, headers={"Content-Type": "application/json"})
    error = await assert_error(response, 400, "VALIDATION_ERROR")
    assert "timeoutConfig.timeoutMinutes" in error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize("number", ["9" * 5000, "1e999"])
async def test_metadata_that_cannot_be_kept_is_refused(client: Client, number: str) -> None:
    """Metadata that could not be returned unchanged is refused."""
    body = f'{{{IDS}, "metadata": {{"a": {number}}}}}'
    response = await client.post(SESSIONS, data=body, headers={"Content-Type": "application/json"})
    await assert_error(response, 400, "VALIDATION_ERROR")


async def test_a_body_of_eight_mebibytes_is_refused(client: Client) -> None:
    """A body that is too large is a 413, with a declared length or in chunks."""
    big = json.dumps({"content": "x" * 8 * 1024 * 1024}).encode()

    async def chunks() -> object:
        for start in range(0, len(big), 65_536):
            yield big[start : start + 65_536]

    headers = {"Content-Type": "application/json"}
    for data in (io.BytesIO(big), chunks()):
        response = await client.post(SESSIONS, data=data, headers=headers)
        await assert_error(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "session_id",
    [
        "x",
        "..%2F..%2Fx",
        "a%2Fb",
        "%7Bid%7D",
        "{}",
        "%0d%0aX-Evil:%201",
        "%00",
        "%ff%fe",
        "%F0%9D%84%9E",
        "x" * 3000,
        "3F2504E0-4F89-41D3-9A0C-0305E82C3301",
        "3f2504e0-4f89-41d3-9a0c-0305e82c330",
        "3f2504e04f8941d39a0c0305e82c3301",
        f"{ID}%0a",
        "{3f}:" + ID,
        "*",
        "%20",
    ],
)
async def test_an_id_of_any_form_is_not_found(client: Client, session_id: str) -> None:
    """An id that is no session's is a 404, not a 400, and is not repeated in the response."""
    url = f"{SESSIONS}/{session_id}"
    for response in (
        await client.delete(url),
        await client.get(url),
        await client.post(f"{url}/renew"),
        await client.post(f"{url}/heartbeat"),
        await client.patch(f"{url}/timeout", json={}),
        await client.patch(url, json={"metadata": {}}),
        await client.post(f"{url}/messages", json={"content": "x"}),
        await client.get(f"{url}/messages"),
    ):
        error = await assert_error(response, 404, "SESSION_NOT_FOUND")
        assert error["message"] == "Session not found"
        assert "X-Evil" not in response.headers
