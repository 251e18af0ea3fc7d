"""The HTTP application: every request goes in and out through ``App.handle``.

It runs on aiohttp's low-level server, with a lookup of its own in place of aiohttp's router
(docs/decisions/0003-no-aiohttp-router.md).
"""

import itertools
import json
import logging
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from session_service.domain.errors import ServiceError, StoreUnavailable
from session_service.logs import REQUEST_ID
from session_service.web.http.browsers import ORIGIN
from session_service.web.http.decoding import (
    CONTENT_ENCODING,
    TRANSFER_ENCODING,
    RequestDecoder,
    check_codings,
    read_body,
)
from session_service.web.http.errors import (
    CodingNotSupported,
    ExpectationFailed,
    HttpVersionNotSupported,
    InternalError,
    MethodNotAllowed,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    RouteNotFound,
    error_response,
)
from session_service.web.http.response import REQUEST_ID_HEADER, Answer
from session_service.web.http.state import AppState
from session_service.web.rest.idempotency import Bound, repeatable
from session_service.web.rest.openapi import document
from session_service.web.rest.route import IDEMPOTENCY_KEY, Route
from session_service.web.rest.table import ROUTES
from session_service.web.streaming.engineio import SocketAnswer
from session_service.web.streaming.socketio import PATH, Sockets
from session_service.web.streaming.sse import EndedStream, EventStream, stream_refusal

_PROBES = {"/healthz", "/readyz"}

_is_sane_id = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch

# After these the rest of what the client sends is not worth reading, or cannot be understood.
_CLOSING = (PayloadTooLarge, CodingNotSupported, HttpVersionNotSupported)
_WHOLE_SERVER = ("*", "/")  # paths at which health checkers ask with OPTIONS

log = logging.getLogger("session_service.requests")


class App:
    """From the route table to answers."""

    def __init__(self, service: AppState, max_sockets: int = 10_000) -> None:
        self._service = service
        self._admission = service.admission
        self._browsers = service.browsers
        self._fields = service.browsers.fields(None)  # of most requests
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        # Both by path, then by method; the first by what stands before the id and after it.
        self._with_id: dict[str, dict[str, dict[str, Bound]]] = defaultdict(dict)
        self._without_id: dict[str, dict[str, Bound]] = defaultdict(dict)
        self._streams: set[Bound] = set()
        for route in ROUTES:
            before, _, rest = route.path.partition("{")
            methods = (
                self._with_id[before].setdefault(rest.partition("}")[2], {})
                if route.parameter
                else self._without_id[before]
            )
            methods[route.method] = bound = self._bind(route)
            if route.streams:
                self._streams.add(bound)
        self._without_id["/openapi.json"]["GET"] = self._serve_document()
        for methods in self._tables():
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
        sockets = Sockets(service, max_sockets)
        for path in (PATH, PATH.removesuffix("/")):
            self._without_id[path] = dict.fromkeys(("GET", "POST"), sockets.handle)
        every = {"OPTIONS"}.union(*self._tables())
        for methods in self._tables():
            methods["OPTIONS"] = self._options({"OPTIONS", *methods})
        for path in _WHOLE_SERVER:
            self._without_id[path]["OPTIONS"] = self._options(every)

    async def handle(
        self, request: web.BaseRequest
    ) -> Answer | EventStream | EndedStream | SocketAnswer:
        """Answer a request, whatever happens."""
        answer: Answer | EventStream | EndedStream | SocketAnswer
        started = time.perf_counter() if log.isEnabledFor(logging.DEBUG) else 0.0
        headers = request.headers
        method = request.method
        given = headers.get(REQUEST_ID_HEADER)
        request_id = given if given and _is_sane_id(given) else self._new_request_id()
        REQUEST_ID.set(request_id)  # aiohttp runs each request in a context of its own
        self._admission.request_begins()
        try:
            if "Expect" in headers and headers["Expect"].lower() != "100-continue":
                raise ExpectationFailed
            self._browsers.admit(method, headers)
            if request.version.major != 1:
                raise HttpVersionNotSupported
            if CONTENT_ENCODING in headers or TRANSFER_ENCODING in headers:
                check_codings(headers)
            path = request.rel_url.raw_path
            # Probes are answered always, and preflights: they cost nothing.
            if self._admission.is_full and path.startswith("/api/") and method != "OPTIONS":
                raise Overloaded
            handler, path_id = self._find(method, path)
            answer = await handler(request, path_id)
        except ServiceError as error:
            answer = self._refusal(request, error)
            self._note_refusal(error)
        except ConnectionError:
            raise  # the client has gone; there is nobody to answer
        except Exception:  # a defect is answered like any error: no trace to the caller
            log.exception("defect", extra={"method": method, "path": request.path})
            answer = self._refusal(request, InternalError())
        finally:
            self._admission.request_ends()
        answer.request_id = request_id
        origin = headers.get(ORIGIN)
        answer.browser_fields = self._fields if origin is None else self._browsers.fields(origin)
        if self._service.draining:
            answer.keep_alive = False
        if started:
            log.debug(
                "request",
                extra={
                    "method": method,
                    "path": request.path,
                    "status": answer.status,
                    "ms": round((time.perf_counter() - started) * 1000, 2),
                },
            )
        return answer

    def _refusal(self, request: web.BaseRequest, error: ServiceError) -> Answer | EndedStream:
        """Answer a request that failed: on a route that streams, a client may have to come back."""
        with suppress(ServiceError):
            if self._find(request.method, request.rel_url.raw_path)[0] in self._streams:
                return stream_refusal(error) or error_response(error)
        answer = error_response(error)
        if isinstance(error, _CLOSING):
            answer.keep_alive = False
        return answer

    async def handle_probe(
        self, request: web.BaseRequest
    ) -> Answer | EventStream | EndedStream | SocketAnswer:
        """Answer a probe and refuse everything else: the connection is one above the limit."""
        if request.rel_url.raw_path in _PROBES:
            answer = await self.handle(request)
        else:
            answer = self._refusal(request, Overloaded())
            answer.request_id = self._new_request_id()
            answer.browser_fields = self._browsers.fields(request.headers.get(ORIGIN))
        answer.keep_alive = False
        return answer

    def _note_refusal(self, error: ServiceError) -> None:
        """Log what an operator has to know of: an overload, or a store that is away."""
        refused = self._admission.refused
        if isinstance(error, StoreUnavailable):
            refused.store.log(reason=error.reason)
        elif isinstance(error, RateLimited):
            refused.creations.log()
        elif isinstance(error, Overloaded):
            refused.overload.log()

    def _new_request_id(self) -> str:
        """Make an id that no other process makes: this one's random name, and a number."""
        return f"{self._name}-{next(self._numbers):x}"

    def _find(self, method: str, path: str) -> tuple[Bound, str]:
        """Find the handler of a path; raises RouteNotFound or MethodNotAllowed."""
        path_id = ""
        methods = self._without_id.get(path)
        if methods is None:
            for before, by_tail in self._with_id.items():
                if path.startswith(before):
                    path_id, slash, rest = path[len(before) :].partition("/")
                    if path_id:
                        tail = slash + rest
                        methods = by_tail.get(tail) or by_tail.get(tail.removesuffix("/"))
                    break
        if methods is None:
            raise RouteNotFound
        if method not in methods:
            if path in _WHOLE_SERVER:
                raise RouteNotFound
            raise MethodNotAllowed(", ".join(sorted(methods)))
        return methods[method], path_id.lower()  # ids are UUID-shaped, and taken in either case

    def _bind(self, route: Route) -> Bound:
        """Make the call of a route, and for requests with an Idempotency-Key another one."""
        given_type = route.body or route.query
        decoder = RequestDecoder(given_type, self._service.policy) if given_type else None
        bound = _bind(route, decoder, self._service)
        if not route.takes_key:
            return bound
        once = repeatable(route, self._service, partial(_bind, route, decoder))
        creations = self._service.creations
        is_limited = route.is_limited and creations.limit

        def bound_or_once(request: web.BaseRequest, path_id: str) -> Awaitable[Any]:
            if is_limited:
                creations.count(request)
            return (once if IDEMPOTENCY_KEY in request.headers else bound)(request, path_id)

        return bound_or_once

    def _tables(self) -> list[dict[str, Bound]]:
        """Return the calls of every path, each by method."""
        return [
            methods
            for by_path in (self._without_id, *self._with_id.values())
            for methods in by_path.values()
        ]

    def _options(self, methods: set[str]) -> Bound:
        """Make the call that answers OPTIONS, preflights among them, for a path's methods."""
        allowed = ", ".join(sorted(methods))

        async def answer_options(request: web.BaseRequest, _: str) -> Answer:
            more = self._browsers.preflight(request.headers, allowed)
            return Answer(204, b"", (("Allow", allowed), *more))

        return answer_options

    def _serve_document(self) -> Bound:
        body = json.dumps(document(self._service.policy)).encode()

        async def serve_document(_: web.BaseRequest, __: str) -> Answer:
            return Answer(200, body)

        return serve_document


def _bind(route: Route, decoder: RequestDecoder | None, service: AppState) -> Bound:
    """Make a handler's call from a request: the id of the path, then the body or the query."""
    handler = route.handler
    has_id, has_body = bool(route.parameter), route.body is not None
    if decoder is None:
        if has_id:
            return lambda _, path_id: handler(service, path_id)
        return lambda _, __: handler(service)

    async def stream(request: web.BaseRequest, path_id: str) -> Answer | EventStream:
        ids = (path_id,) if has_id else ()
        return await handler(service, *ids, decoder.query(request), request.remote or "")

    async def bound(request: web.BaseRequest, path_id: str) -> Answer | EventStream:
        given = (
            decoder.body(await read_body(request, service.admission))
            if has_body
            else decoder.query(request)
        )
        return await (handler(service, path_id, given) if has_id else handler(service, given))

    return stream if route.streams else bound
