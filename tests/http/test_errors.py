"""Every error on every route has the one shape, also for requests that are no HTTP."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from session_service.composition import open_store
from session_service.web.http import admission, bodies
from tests.support.api import SESSIONS, Client, assert_error, send_raw
from tests.support.factories import ID, store_settings
from tests.support.service import ServiceUnderTest, app_state
from tests.support.sse import EVENTS, follow
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/assets/",
        "/docs/",
        "/api/messaging",
        f"{SESSIONS}/",
        f"{SESSIONS}/{ID}/x",
        f"{SESSIONS}/{ID}//",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "QUERY"])
async def test_an_unknown_path_is_not_found(client: Client, method: str, path: str) -> None:
    """An unknown path is a 404, with any method."""
    await assert_error(await client.request(method, path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", SESSIONS, "DELETE, GET, HEAD, OPTIONS, POST"),
        ("PATCH", SESSIONS, "DELETE, GET, HEAD, OPTIONS, POST"),
        ("POST", f"{SESSIONS}/{ID}", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("GET", f"{SESSIONS}/{ID}/renew", "OPTIONS, POST"),
        ("POST", f"{SESSIONS}/{ID}/timeout", "OPTIONS, PATCH"),
        ("DELETE", f"{SESSIONS}/health", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_an_unknown_method_tells_the_known(
    client: Client, method: str, path: str, allowed: str
) -> None:
    """An unknown method is a 405 with Allow."""
    response = await client.request(method, path)
    await assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == allowed


async def test_a_head_is_a_get_without_its_body(client: Client) -> None:
    """HEAD has the headers of GET and no body."""
    head, got = await client.head("/healthz"), await client.get("/healthz")
    assert (head.status, await head.read()) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}/{ID}/messages"])
async def test_another_media_type_is_refused(client: Client, path: str) -> None:
    """A body that is not declared as JSON is a 415; a charset is ignored."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        response = await client.post(path, data="{}", headers={"Content-Type": kind})
        await assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    kind = "application/json; charset=utf-8"
    response = await client.post(SESSIONS, data="{}", headers={"Content-Type": kind})
    await assert_error(response, 400, "VALIDATION_ERROR")


async def test_another_expectation_is_refused(client: Client) -> None:
    """Any expectation other than 100-continue is refused."""
    response = await client.post(SESSIONS, json={}, headers={"Expect": "a miracle"})
    await assert_error(response, 417, "EXPECTATION_FAILED")


async def test_a_body_that_does_not_come_is_not_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose body does not arrive is answered after a bound."""
    monkeypatch.setattr(admission, "BODY_SECONDS", 0.05)
    response = await send_raw(
        client,
        f"POST {SESSIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        "Content-Type: application/json\r\nConnection: close\r\n\r\n{",
    )
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in response


async def test_a_body_is_not_missed_where_the_client_has_gone() -> None:
    """A connection lost before its body was read is not logged as a defect.

    aiohttp does not notify a body of the loss if its handler has not started, which on Python 3.11
    may be one turn of the loop later.
    """
    read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handle(request: web.BaseRequest) -> web.Response:
        request.protocol._current_request = None  # noqa: SLF001 - as if it had not started yet
        await wait_until(lambda: request.transport is None)
        try:
            read.set_result(await bodies.read_bytes(request, admission.Admission()))
        except Exception as error:  # noqa: BLE001 - whichever it is
            read.set_exception(error)
        return web.Response()

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        await writer.drain()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await read
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "request_text",
    [
        "\r\nnonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_an_error_too(client: Client, request_text: str) -> None:
    """A request that is no HTTP gets an error in the one shape, without its own text."""
    response = await send_raw(client, request_text)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"BAD_REQUEST"' in response
    assert b"xxxx" not in response


async def test_the_request_id_is_the_callers(client: Client) -> None:
    """The caller's request id is used if it is valid; else one is generated."""
    for sane in ("a", ID, "x" * 128):
        response = await client.get("/healthz", headers={"X-Request-ID": sane})
        assert response.headers["X-Request-ID"] == sane
    made = set()
    for insane in (None, "", "x" * 129, "a b", "a\tb", "<x>", "ü"):
        headers = {} if insane is None else {"X-Request-ID": insane}
        response = await client.get("/healthz", headers=headers)
        made.add(response.headers["X-Request-ID"])
    assert len(made) == 7
    assert insane not in made


async def test_connections_are_kept_as_the_client_wants(client: Client) -> None:
    """HTTP/1.0 without keep-alive, and ``Connection: close``, end with the response."""
    assert b"Connection: close\r\n" in await send_raw(client, "GET /healthz HTTP/1.0\r\n\r\n")
    request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await send_raw(client, request)).endswith(b'{"status":"ok"}')


async def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    """Several requests in one write are answered in order."""
    request = "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n"
    last = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    response = await send_raw(client, request.format("healthz") + request.format("nope") + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"200", b"404", b"200"]


class TestWithoutStore:
    """A service whose store cannot be reached."""

    @pytest.fixture
    async def lost(self, aiohttp_client: Callable[..., Any]) -> Any:
        async with open_store(store_settings("redis://127.0.0.1:1/0", store_timeout=1)) as store:
            yield await aiohttp_client(ServiceUnderTest(app_state(store)))

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "", {"agentId": ID, "userId": ID}),
            ("GET", "", None),
            ("GET", f"/{ID}", None),
            ("DELETE", f"/{ID}", None),
            ("DELETE", f"?userId={ID}", None),
            ("POST", f"/{ID}/renew", None),
            ("POST", f"/{ID}/heartbeat", None),
            ("PATCH", f"/{ID}/timeout", {}),
            ("PATCH", f"/{ID}", {"metadata": {}}),
            ("POST", f"/{ID}/messages", {"content": "x"}),
            ("GET", f"/{ID}/messages", None),
        ],
    )
    async def test_every_operation_says_so(
        self, lost: Client, method: str, path: str, body: Any
    ) -> None:
        """Every operation is a 503 with Retry-After, and never 404, 410 or 500."""
        response = await lost.request(method, SESSIONS + path, json=body)
        await assert_error(response, 503, "STORE_UNAVAILABLE")
        assert response.headers["Retry-After"] == "1"

    @pytest.mark.parametrize("path", [EVENTS, f"{SESSIONS}/{ID}/events"])
    async def test_a_stream_says_when_to_come_back(self, lost: Client, path: str) -> None:
        """A stream is a 200 with a retry time, as an EventSource gives up at other statuses."""
        source = await follow(lost, path)
        assert await source.rest() == []
        assert source.positions == 1
        assert 1000 <= source.retry <= 3000
        assert source.comments == [
            "The session store is not available at the moment; reconnect with Last-Event-ID"
        ]
        assert (await lost.head(path)).status == 200
        response = await lost.get(path, params={"lastEventId": "x"})
        await assert_error(response, 400, "VALIDATION_ERROR")
        response = await lost.post(path)
        await assert_error(response, 405, "METHOD_NOT_ALLOWED")

    async def test_it_is_alive_but_not_ready(self, lost: Client) -> None:
        """Liveness succeeds; readiness and health are 503."""
        assert (await lost.get("/healthz")).status == 200
        await assert_error(await lost.get("/readyz"), 503, "STORE_UNAVAILABLE")
        response = await lost.get(f"{SESSIONS}/health")
        body = await response.json()
        assert (response.status, body["status"]) == (503, "unhealthy")
        assert (body["success"], body["error"]["code"]) == (False, "STORE_UNAVAILABLE")
