"""The Idempotency-Key header: the same request, made again, gets the same answer.

What a key is claimed for is the method, the path with its query, and the bytes of the body where
the operation takes one.
"""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import msgspec
from aiohttp import web

from session_service.domain.errors import ServiceError, StoreUnavailable, ValidationFailed
from session_service.store.sessions.scope import Scope
from session_service.web.http.admission import Admission
from session_service.web.http.decoding import read_body
from session_service.web.http.errors import error_response
from session_service.web.http.response import Answer
from session_service.web.http.state import AppState
from session_service.web.rest.route import IDEMPOTENCY_KEY, Endpoint, Route
from session_service.web.streaming.engineio import SocketAnswer
from session_service.web.streaming.sse import EventStream

_is_key = re.compile(r"[ -~]{1,255}").fullmatch


def idempotent(
    route: Route, service: AppState, make_endpoint: Callable[[AppState], Endpoint]
) -> Endpoint:
    """Return the endpoint for a route's requests with the header; ``make_endpoint`` ignores it."""
    endpoint = make_endpoint(service)
    repository, claims = service.repository, service.repository.claims

    async def atomic(
        request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Answer | EventStream | SocketAnswer:
        once = await claims.once(
            _key(request), await _fingerprint(route, request, service.admission)
        )
        return await make_endpoint(service.through(repository.scoped(Scope(once, once.random))))(
            request, ids
        )

    async def in_steps(request: web.BaseRequest, ids: tuple[str, ...]) -> Answer:
        claim = await claims.begin(
            _key(request), await _fingerprint(route, request, service.admission)
        )
        if claim.answer is not None:
            return _unpacked(claim.answer)
        kept = b""
        try:
            try:
                answer = cast("Answer", await endpoint(request, ids))  # streams take no key
            except ServiceError as error:
                answer = error_response(error)
                if answer.status >= 500:
                    raise
            kept = _packed(answer)
        finally:
            with suppress(StoreUnavailable):  # it has happened, and the caller is to know
                await claims.finish(claim, kept)
        return answer

    return atomic if route.is_atomic else in_steps


def _key(request: web.BaseRequest) -> str:
    key, *others = request.headers.getall(IDEMPOTENCY_KEY)
    if others or not _is_key(key):
        raise ValidationFailed(IDEMPOTENCY_KEY, "must be 1 to 255 printable ASCII characters")
    return key


async def _fingerprint(route: Route, request: web.BaseRequest, admission: Admission) -> str:
    body = await read_body(request, admission) if route.body else b""
    line = f"{request.method} {request.raw_path}\n".encode("utf-8", "surrogateescape")
    return hashlib.sha256(line + body).hexdigest()


def _packed(answer: Answer) -> bytes:
    return msgspec.json.encode((answer.status, answer.headers)) + b"\n" + answer.body


def _unpacked(packed: bytes) -> Answer:
    head, _, body = packed.partition(b"\n")
    status, headers = msgspec.json.decode(head, type=tuple[int, tuple[tuple[str, str], ...]])
    return Answer(status, body, headers)
