"""What the Python client does about failures: a server fails as each test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from session_service.client import (
    ApiError,
    ConnectionFailed,
    InternalError,
    Overloaded,
    RateLimited,
    RecordUnreadable,
    RequestTimedOut,
    SessionExpired,
    SessionNotFound,
    SessionService,
    SessionServiceError,
    StoreUnavailable,
    UnexpectedResponse,
    retries,
)
from session_service.client.credentials import find_credential, find_url
from tests.support.factories import new_uuid

SESSION = new_uuid()
SECRET = "ssk_this-is-a-secret"  # noqa: S105 - it is none
SENT = {
    "id": new_uuid(),
    "content": "Hello",
    "authorId": new_uuid(),
    "createdAt": "2026-01-15T10:30:45.123Z",
    "metadata": {},
    "sessionStatus": {
        "expiresAt": "2026-01-15T11:00:45.123Z",
        "renewalCount": 0,
        "wasRenewed": False,
        "isNearExpiration": False,
    },
}
SENT["userMessage"] = {**SENT, "isAgent": False}

Answer = Callable[[web.BaseRequest], Awaitable[web.Response]]


def error(status: int, code: str, retry_after: str | None = None) -> Answer:
    async def answer(_: web.BaseRequest) -> web.Response:
        body = {"success": False, "error": {"code": code, "message": "No", "details": "why"}}
        headers = {"X-Request-ID": "r-1"}
        if retry_after is not None:
            headers["Retry-After"] = retry_after
        return web.Response(status=status, text=json.dumps(body), headers=headers)

    return answer


async def sent(_: web.BaseRequest) -> web.Response:
    return web.json_response(SENT, status=201)


async def cut(request: web.BaseRequest) -> web.Response:
    """Close the connection, as a node that is killed after it has processed the request."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def page_of_a_proxy(_: web.BaseRequest) -> web.Response:
    return web.Response(status=502, text="<h1>Bad Gateway</h1>", content_type="text/html")


class Failing:
    """A server that answers the first requests as told, and all others with success."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[web.BaseRequest] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        self.requests.append(request)
        return await (self.answers.pop(0) if self.answers else sent)(request)

    @property
    def keys(self) -> list[str | None]:
        return [each.headers.get("Idempotency-Key") for each in self.requests]


@pytest.fixture
async def server() -> AsyncIterator[Failing]:
    failing = Failing()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", failing.handle)
    async with TestServer(application) as listening:
        failing.url = str(listening.make_url("")).rstrip("/")
        yield failing


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays before the retries, in seconds, which take no time here."""
    found: list[float] = []
    delay = retries.delay

    def noted(*arguments: Any) -> float:
        found.append(delay(*arguments))
        return 0.0

    monkeypatch.setattr("session_service.client.transport.delay", noted)
    return found


@pytest.mark.parametrize(
    "failure",
    [
        error(503, "OVERLOADED"),
        error(503, "STORE_UNAVAILABLE"),
        error(409, "IDEMPOTENCY_CONFLICT"),
        cut,
        page_of_a_proxy,
    ],
)
async def test_a_repeated_message_has_its_key(
    server: Failing, waits: list[float], failure: Answer
) -> None:
    """A POST is sent again with the same Idempotency-Key, so that it has one effect."""
    server.answers = [failure, failure]
    async with SessionService(server.url) as service:
        await service.messages.send(SESSION, "Hello")
        await service.messages.send(SESSION, "Hello")
    first, *repeated, other = server.keys
    assert first is not None
    assert repeated == [first, first]
    assert other != first
    assert len(waits) == 2


@pytest.mark.parametrize("code", [(429, "RATE_LIMITED"), (503, "OVERLOADED")])
async def test_retry_after_is_honoured(
    server: Failing, waits: list[float], code: tuple[int, str]
) -> None:
    """The next attempt comes no earlier than Retry-After."""
    server.answers = [error(*code, retry_after="3")]
    async with SessionService(server.url) as service:
        await service.messages.send(SESSION, "Hello")
    assert len(waits) == 1
    assert 3 <= waits[0] < 4


async def test_a_long_retry_after_is_the_callers_decision(
    server: Failing, waits: list[float]
) -> None:
    """Beyond a minute the error is raised at once, with the time."""
    server.answers = [error(429, "RATE_LIMITED", retry_after="3600")]
    async with SessionService(server.url) as service:
        with pytest.raises(RateLimited) as raised:
            await service.messages.send(SESSION, "Hello")
    assert raised.value.retry_after == 3600
    assert waits == []


async def test_retries_end(server: Failing, waits: list[float]) -> None:
    """After max_retries the last error is raised; the delays grow."""
    server.answers = [error(503, "OVERLOADED")] * 9
    async with SessionService(server.url, max_retries=5) as service:
        with pytest.raises(Overloaded):
            await service.messages.send(SESSION, "Hello")
    assert len(server.requests) == 6
    assert len(waits) == 5
    assert waits[0] <= 0.25
    assert 2 <= waits[4] <= 4


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (error(503, "RECORD_UNREADABLE"), RecordUnreadable),
        (error(500, "INTERNAL_ERROR"), InternalError),
        (error(404, "SESSION_NOT_FOUND"), SessionNotFound),
    ],
)
async def test_what_will_not_pass_is_raised_at_once(
    server: Failing, failure: Answer, kind: type[ApiError]
) -> None:
    """An error that another attempt would meet again is raised, with all that the response has."""
    server.answers = [failure]
    async with SessionService(server.url) as service:
        with pytest.raises(kind) as raised:
            await service.messages.send(SESSION, "Hello")
    found = raised.value
    assert (found.code, found.message, found.details) == (kind.error_code, "No", "why")
    assert (found.status, found.request_id) == (found.error_code and found.error_code.status, "r-1")
    assert "r-1" in str(found)


async def test_a_code_of_a_newer_service(server: Failing) -> None:
    """An unknown code is an ApiError, which has the code."""
    server.answers = [error(418, "IS_A_TEAPOT")]
    async with SessionService(server.url) as service:
        with pytest.raises(ApiError) as raised:
            await service.sessions.get(SESSION)
    assert (type(raised.value), raised.value.code) == (ApiError, "IS_A_TEAPOT")


@pytest.mark.parametrize("failure", [cut, page_of_a_proxy, error(503, "STORE_UNAVAILABLE")])
async def test_a_patch_that_may_have_been_done_is_not_repeated(
    server: Failing, failure: Answer
) -> None:
    """A repetition of a change could undo that of another caller, so the caller decides."""
    server.answers = [failure]
    async with SessionService(server.url) as service:
        with pytest.raises((ConnectionFailed, UnexpectedResponse, StoreUnavailable)):
            await service.sessions.update(SESSION, metadata={})
    assert len(server.requests) == 1


async def test_a_patch_that_was_refused_is_repeated(server: Failing, waits: list[float]) -> None:
    """A change that the service did not begin is sent again."""
    server.answers = [error(503, "OVERLOADED"), error(404, "SESSION_NOT_FOUND")]
    async with SessionService(server.url) as service:
        with pytest.raises(SessionNotFound):
            await service.sessions.update(SESSION, metadata={})
    assert len(waits) == 1


async def test_a_call_has_its_own_timeout(server: Failing) -> None:
    """``timeout`` of a call replaces that of the client."""

    async def never(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    server.answers = [never]
    async with SessionService(server.url, timeout=30, max_retries=0) as service:
        with pytest.raises(RequestTimedOut, match=r"in 0\.05 s"):
            await service.messages.send(SESSION, "Hello", timeout=0.05)


async def test_a_redirect_does_not_get_the_credential(server: Failing) -> None:
    """A redirect is an error: another host must not receive the key."""

    async def moved(_: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    server.answers = [moved]
    async with SessionService(server.url, api_key=SECRET) as service:
        with pytest.raises(UnexpectedResponse, match="302"):
            await service.sessions.get(SESSION)
    assert len(server.requests) == 1


async def test_credentials_are_sent_and_never_shown(server: Failing) -> None:
    """The key is in its header, and in no repr and no exception or its causes."""
    server.answers = [cut, error(401, "UNAUTHORIZED")]
    service = SessionService(server.url, api_key=SECRET, max_retries=0)
    texts = [repr(service), repr(vars(service)), repr(find_credential(SECRET, None))]
    async with service:
        for _ in range(2):
            with pytest.raises(SessionServiceError) as raised:
                await service.sessions.update(SESSION, metadata={})
            found: BaseException | None = raised.value
            while found is not None:
                texts += [repr(found), str(found), repr(vars(found))]
                found = found.__cause__ or found.__context__
    assert [each.headers["X-API-KEY"] for each in server.requests] == [SECRET] * 2
    assert [text for text in texts if SECRET in text] == []


async def test_a_token_is_fresh_for_each_attempt(server: Failing, waits: list[float]) -> None:
    """A function that returns tokens is asked before each attempt."""
    tokens = iter(["one", "two"])

    async def token() -> str:
        return next(tokens)

    server.answers = [error(503, "OVERLOADED")]
    async with SessionService(server.url, token=token) as service:
        await service.messages.send(SESSION, "Hello")
    found = [each.headers["Authorization"] for each in server.requests]
    assert found == ["Bearer one", "Bearer two"]
    assert len(waits) == 1


def test_the_environment_has_what_is_not_given(tmp_path: Path) -> None:
    """The URL and the key come from the environment; a given credential replaces that key."""
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    by_file = {"SESSION_SERVICE_KEY_FILE": str(file)}
    assert find_credential(None, None, by_file).api_key == SECRET
    assert find_credential(None, None, {"SESSION_SERVICE_KEY": "k"}).api_key == "k"
    assert find_credential("mine", None, by_file).api_key == "mine"
    assert find_credential(None, "mine", by_file).api_key is None
    assert find_url(None, {"SESSION_SERVICE_URL": "https://s/base/"}) == "https://s/base"
    with pytest.raises(ValueError, match="both set"):
        find_credential(None, None, {**by_file, "SESSION_SERVICE_KEY": "k"})
    for wrong in ("localhost:3000", "ftp://s", "http://", "http://u:hidden@s", "http://s?a=b"):
        with pytest.raises(ValueError, match="the URL of the service") as raised:
            find_url(wrong)
        assert "hidden" not in str(raised.value)


async def test_a_stream_tells_of_its_connection(server: Failing) -> None:
    """`on_connection` is called once for each connection, and once with the reason of each loss."""
    begins = b"retry: 1\nid: 1764000000000-3f-0\nevent: position\ndata: {}\n\n"
    ends_at_once = b"retry: 1\nevent: position\ndata: {}\n: the store is away\n\n"

    def stream(body: bytes) -> Answer:
        async def answer(_: web.BaseRequest) -> web.Response:
            return web.Response(body=body, content_type="text/event-stream")

        return answer

    server.answers = [
        *(stream(begins), stream(ends_at_once), stream(begins + begins)),
        error(410, "SESSION_EXPIRED"),
    ]
    told: list[SessionServiceError | None] = []
    async with SessionService(server.url) as caller:
        with pytest.raises(SessionExpired):
            async for _ in caller.events.follow(session_id=SESSION, on_connection=told.append):
                pass
    assert [each and type(each) for each in told] == [None, ConnectionFailed] * 2
