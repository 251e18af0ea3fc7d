"""Requests and responses: encodes, sends, repeats what may be repeated, decodes, raises."""

import asyncio
import errno
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec

from session_service.api.base import Request
from session_service.api.errors import Error
from session_service.client import memory
from session_service.client.credentials import Credential
from session_service.client.errors import (
    BY_CODE,
    ApiError,
    ConnectionFailed,
    RequestTimedOut,
    SessionServiceError,
    UnexpectedResponse,
)
from session_service.client.retries import NoConnection, delay, may_retry, read_retry_after

API = "/api/messaging"

_is_id = re.compile(r"[0-9A-Za-z_-]{1,100}").fullmatch
_CONNECT_SECONDS = 5.0  # a part of the timeout

# The method for each operation of the API document, by its operationId.
OPERATIONS: dict[str, Callable[..., Any]] = {}

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


def operation(*ids: str) -> Callable[[F], F]:
    """Mark a method with the operations of the API document that it calls, e.g. ``getSession``."""

    def mark(method: F) -> F:
        OPERATIONS.update(dict.fromkeys(ids, method))
        return method

    return mark


def path_of(*parts: str) -> str:
    """Return a path below the API, e.g. ``/api/messaging/sessions/3f1c…``.

    Raises ValueError for a part that no id can be, so that ``sessions.end("")`` is not a request to
    end many sessions.
    """
    for part in parts:
        if not _is_id(part):
            raise ValueError(f"{part!r} is not an id: ids have letters, digits, - and _")
    return "/".join((API, *parts))


class _Request(NamedTuple):
    method: str
    path: str
    query: Request | None
    content: bytes | None
    headers: Mapping[str, str]


class Transport:
    """Sends requests to one service, over connections that it keeps.

    ``timeout`` is in seconds, for each attempt. It connects with the first request.
    """

    def __init__(
        self, url: str, credential: Credential, *, timeout: float, max_retries: int
    ) -> None:
        self.url = url
        self._credential = credential
        self.timeout = timeout
        self.max_retries = max_retries
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections; calls raise RuntimeError from now on."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        response: type[R],
        *,
        query: Request | None = None,
        body: Request | None = None,
        is_repeatable: bool = True,
        idempotency_key: str | None = None,
        has_key: bool = False,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> R:
        """Make a request, repeat it if it may be repeated, and return the decoded response.

        A repetition has no effect if ``is_repeatable``; with ``has_key``, an ``Idempotency-Key``
        sees to that: a new one, unless it is given. Raises SessionServiceError.
        """
        headers: dict[str, str] = {}
        if has_key or idempotency_key:
            headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        request = _Request(method, path, query, content, headers)
        attempts = 1 + (self.max_retries if max_retries is None else max_retries)
        attempt = 0
        while True:
            result = await self._attempt(request, response, timeout)
            if not isinstance(result, SessionServiceError):
                return result
            attempt += 1
            if attempt >= attempts or not may_retry(result, is_repeatable=is_repeatable):
                raise result
            await asyncio.sleep(delay(result, attempt - 1))

    async def open_stream(
        self, path: str, query: Request, last_event_id: str | None, silence: float
    ) -> aiohttp.ClientResponse | SessionServiceError:
        """Open a stream, which the caller closes, or return the reason why there is none.

        The stream fails if nothing comes for ``silence`` seconds.
        """
        headers = {"Accept": "text/event-stream", **await self._credential.header()}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        try:
            answer = await self._send(
                _Request("GET", path, query, None, headers),
                aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=silence),
            )
            if answer.status == 200 and answer.content_type == "text/event-stream":
                return answer
            async with answer:
                return _error_of(answer, await answer.read())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return self._failure(error, silence)

    async def _attempt(
        self, request: _Request, response: type[R], timeout: float | None
    ) -> R | SessionServiceError:
        # Errors are returned, because those of aiohttp may have the headers of the request, and an
        # exception that is raised while another is handled refers to that.
        # An error of the caller's function for tokens is raised as it is.
        authorization = await self._credential.header()
        request = request._replace(headers={**request.headers, **authorization})
        seconds = self.timeout if timeout is None else timeout
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS))
        try:
            async with await self._send(request, limits) as answer:
                received = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return self._failure(error, seconds)
        if answer.status >= 300:
            return _error_of(answer, received)
        try:
            return msgspec.json.decode(received, type=response)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _unexpected(answer, "its body is not that of the operation")

    async def _send(
        self, request: _Request, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        if self.url == memory.URL:
            raise RuntimeError('memory:// begins with: async with SessionService("memory://")')
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # streams hold a connection each
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return await self._session.request(
            request.method,
            self.url + request.path,
            params=_parameters(request.query),
            data=request.content,
            headers=request.headers,
            timeout=limits,
            allow_redirects=False,  # the credential is for this service only
        )

    def _failure(self, error: Exception, seconds: float) -> SessionServiceError:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        match error:
            case aiohttp.ClientConnectorError(errno=errno.ECONNREFUSED):
                return NoConnection(f"cannot connect to {self.url}: the connection was refused")
            case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
                return NoConnection(f"cannot connect to {self.url}: {reason}")
            case TimeoutError():
                return RequestTimedOut(f"no response from {self.url} in {seconds:g} s")
            case _:
                return ConnectionFailed(f"the connection to {self.url} failed: {reason}")


def _parameters(query: Request | None) -> list[tuple[str, str]]:
    """Return the parameters of a query: a list as one that is repeated; unset ones are left out."""
    found: list[tuple[str, str]] = []
    for name, value in (msgspec.to_builtins(query) if query is not None else {}).items():
        found += ((name, str(each)) for each in (value if isinstance(value, list) else [value]))
    return found


def _error_of(answer: aiohttp.ClientResponse, received: bytes) -> SessionServiceError:
    """Return the exception for a response that is no success."""
    try:
        error = msgspec.json.decode(received, type=Error).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _unexpected(answer, "its body is not an error of the service")
    return BY_CODE.get(error.code, ApiError)(
        error.code,
        error.message,
        status=answer.status,
        details=error.details,
        request_id=answer.headers.get("X-Request-ID"),
        retry_after=read_retry_after(answer.headers.get("Retry-After")),
    )


def _unexpected(answer: aiohttp.ClientResponse, problem: str) -> UnexpectedResponse:
    return UnexpectedResponse(
        f"{answer.method} {answer.url.path} was answered {answer.status}, and {problem}",
        answer.status,
        answer.headers.get("X-Request-ID"),
        read_retry_after(answer.headers.get("Retry-After")),
    )
