"""The Idempotency-Key header: a request that is sent again gets the same response.

A key such as ``8e03978e-40d5-43e8-bc93-6894a57f9324`` belongs to one request: to its method, its
path with the query, and the bytes of its body if the operation takes one. The same key with another
request is refused. With access control, each credential has keys of its own.
"""

import hashlib
import re
from contextlib import suppress
from typing import cast

import msgspec
from aiohttp import web
from msgspec.structs import replace

from session_service.domain.errors import (
    RateLimited,
    ServiceError,
    StoreUnavailable,
    ValidationFailed,
)
from session_service.store.sessions.scope import Scope
from session_service.web.http.bodies import read_body
from session_service.web.http.context import Endpoint, RequestContext
from session_service.web.http.errors import error_response
from session_service.web.http.response import JsonResponse, Response
from session_service.web.rest.route import IDEMPOTENCY_KEY, Route

_is_key = re.compile(r"[ -~]{1,255}").fullmatch


def idempotent(route: Route, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint for requests with the header, based on the one for all other requests."""
    return _replaying(route, endpoint) if route.is_atomic else _recording(route, endpoint)


def _replaying(route: Route, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint for a route with one script: the store replays the script's reply."""

    async def replay(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        sessions = context.sessions
        replaying = await sessions.idempotency_keys.claim(
            _key(context, request),
            await _fingerprint(route, context, request),
            sessions.scope.executor,
        )
        scope = Scope(replaying, replaying.random, context.credential)
        return await endpoint(replace(context, sessions=sessions.scoped(scope)), request, ids)

    return replay


def _recording(route: Route, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint for a route with several steps: its response is recorded, and replayed.

    The key has a lease in the meantime, so a second request with it is refused with a 409.
    """

    async def record(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        keys = context.sessions.idempotency_keys
        claim = await keys.claim_with_lease(
            _key(context, request), await _fingerprint(route, context, request)
        )
        if claim.response is not None:
            return _unpack(claim.response)
        recorded = b""
        try:
            try:
                # Streams do not take the header.
                response = cast("JsonResponse", await endpoint(context, request, ids))
            except ServiceError as error:
                response = error_response(error)
                if response.status >= 500 or isinstance(error, RateLimited):
                    raise
            recorded = _pack(response)
        finally:
            with suppress(StoreUnavailable):  # the request was executed: respond nevertheless
                await keys.record(claim, recorded)
        return response

    return record


def _key(context: RequestContext, request: web.BaseRequest) -> str:
    """Return the value of the header, after its owner if it has one; raises ValidationFailed."""
    key, *others = request.headers.getall(IDEMPOTENCY_KEY)
    if others or not _is_key(key):
        raise ValidationFailed(IDEMPOTENCY_KEY, "must be 1 to 255 printable ASCII characters")
    owner = context.credential.owner
    return f"{owner} {key}" if owner else key


async def _fingerprint(route: Route, context: RequestContext, request: web.BaseRequest) -> str:
    body = await read_body(request, context.state.admission) if route.body else b""
    line = f"{request.method} {request.raw_path}\n".encode("utf-8", "surrogateescape")
    return hashlib.sha256(line + body).hexdigest()


def _pack(response: JsonResponse) -> bytes:
    """Return a response as bytes: ``[200,[]]``, a line feed, and the body."""
    return msgspec.json.encode((response.status, response.headers)) + b"\n" + response.body


def _unpack(packed: bytes) -> JsonResponse:
    head, _, body = packed.partition(b"\n")
    status, headers = msgspec.json.decode(head, type=tuple[int, tuple[tuple[str, str], ...]])
    return JsonResponse(status, body, headers)
