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
from contextlib import suppress

from aiohttp import web

from session_service.domain.errors import ServiceError, StoreUnavailable
from session_service.logs import REQUEST_ID
from session_service.web.http.browsers import ORIGIN
from session_service.web.http.decoding import (
    CONTENT_ENCODING,
    TRANSFER_ENCODING,
    check_codings,
)
from session_service.web.http.errors import (
    CodingNotSupported,
    ExpectationFailed,
    HttpVersionNotSupported,
    InternalError,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    error_response,
)
from session_service.web.http.response import REQUEST_ID_HEADER, Answer
from session_service.web.http.state import AppState
from session_service.web.rest.endpoint import make_endpoint
from session_service.web.rest.openapi import document
from session_service.web.rest.route import Endpoint, is_api_path
from session_service.web.rest.router import WHOLE_SERVER, Router
from session_service.web.rest.table import ROUTES
from session_service.web.streaming.engineio import SocketAnswer
from session_service.web.streaming.socketio import PATH, Sockets
from session_service.web.streaming.sse import EndedStream, EventStream, stream_refusal

_PROBES = {"/healthz", "/readyz"}

_is_sane_id = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch

# After these the rest of what the client sends is not worth reading, or cannot be understood.
_CLOSING = (PayloadTooLarge, CodingNotSupported, HttpVersionNotSupported)

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
        self._router = Router[Endpoint]()
        self._find = self._router.find
        self._streams: set[Endpoint] = set()
        for route in ROUTES:
            endpoint = make_endpoint(route, service)
            self._router.add(route.method, route.path, endpoint)
            if route.streams:
                self._streams.add(endpoint)
        self._router.add("GET", "/openapi.json", self._serve_document())
        for methods in self._router.every_path():
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
        sockets = Sockets(service, max_sockets)
        for path in (PATH, PATH.removesuffix("/")):
            for method in ("GET", "POST"):
                self._router.add(method, path, sockets.handle)
        every = {"OPTIONS"}.union(*self._router.every_path())
        for methods in self._router.every_path():
            methods["OPTIONS"] = self._options({"OPTIONS", *methods})
        for path in WHOLE_SERVER:
            self._router.add("OPTIONS", path, self._options(every))

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
            if self._admission.is_full and is_api_path(path) and method != "OPTIONS":
                raise Overloaded
            endpoint, ids = self._find(method, path)
            answer = await endpoint(request, ids)
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

    def _options(self, methods: set[str]) -> Endpoint:
        """Make the call that answers OPTIONS, preflights among them, for a path's methods."""
        allowed = ", ".join(sorted(methods))

        async def answer_options(request: web.BaseRequest, _: tuple[str, ...]) -> Answer:
            more = self._browsers.preflight(request.headers, allowed)
            return Answer(204, b"", (("Allow", allowed), *more))

        return answer_options

    def _serve_document(self) -> Endpoint:
        body = json.dumps(document(self._service.policy)).encode()

        async def serve_document(_: web.BaseRequest, __: tuple[str, ...]) -> Answer:
            return Answer(200, body)

        return serve_document
