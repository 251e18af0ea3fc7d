"""Makes endpoints of routes: functions of a request and the ids of its path."""

from collections.abc import Awaitable
from functools import partial
from typing import Any

from aiohttp import web

from session_service.web.http.decoding import RequestDecoder, read_body
from session_service.web.http.response import Answer
from session_service.web.http.state import AppState
from session_service.web.rest.idempotency import idempotent
from session_service.web.rest.route import IDEMPOTENCY_KEY, Endpoint, Route
from session_service.web.streaming.sse import EventStream


def make_endpoint(route: Route, service: AppState) -> Endpoint:
    """Return the endpoint of a route, which counts its requests and honours Idempotency-Key."""
    request_type = route.body or route.query
    decoder = RequestDecoder(request_type, service.policy) if request_type else None
    endpoint = _call_handler(route, decoder, service)
    if not route.takes_idempotency_key:
        return endpoint
    with_key = idempotent(route, service, partial(_call_handler, route, decoder))
    creations = service.creations
    is_limited = route.is_limited and creations.limit

    def endpoint_or_first_reply(request: web.BaseRequest, ids: tuple[str, ...]) -> Awaitable[Any]:
        if is_limited:
            creations.count(request)
        return (with_key if IDEMPOTENCY_KEY in request.headers else endpoint)(request, ids)

    return endpoint_or_first_reply


def _call_handler(route: Route, decoder: RequestDecoder | None, service: AppState) -> Endpoint:
    """Return the endpoint that calls a handler with the ids, then the decoded body or query."""
    handler, has_body = route.handler, route.body is not None
    if decoder is None:
        if len(route.ids) == 1:  # GET and DELETE: unpacking the ids costs 0.1 us more
            return lambda _, ids: handler(service, ids[0])
        return lambda _, ids: handler(service, *ids)

    async def stream(request: web.BaseRequest, ids: tuple[str, ...]) -> Answer | EventStream:
        return await handler(service, *ids, decoder.query(request), request.remote or "")

    async def call(request: web.BaseRequest, ids: tuple[str, ...]) -> Answer | EventStream:
        decoded = (
            decoder.body(await read_body(request, service.admission))
            if has_body
            else decoder.query(request)
        )
        return await handler(service, *ids, decoded)

    return stream if route.streams else call
