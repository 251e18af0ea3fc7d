"""The HTTP application: every request and its response go through ``App.handle``.

It runs on aiohttp's low-level server, with a router of its own instead of aiohttp's
(docs/decisions/0003-no-aiohttp-router.md).
"""

import itertools
import re
import secrets
import time
from contextlib import suppress
from typing import Any

from aiohttp import web

from session_service.audit import REFUSALS, AuditEvent, AuditLog, Outcome
from session_service.domain.errors import ServiceError
from session_service.domain.ids import is_uuid
from session_service.logs import REQUEST_ID
from session_service.web.http.bodies import CONTENT_ENCODING, TRANSFER_ENCODING, check_codings
from session_service.web.http.browsers import ORIGIN
from session_service.web.http.charging import standing_after
from session_service.web.http.context import Endpoint, RequestContext
from session_service.web.http.durations import RequestDurations
from session_service.web.http.errors import (
    CodingNotSupported,
    ExpectationFailed,
    HttpVersionNotSupported,
    InternalError,
    Overloaded,
    PayloadTooLarge,
    error_response,
)
from session_service.web.http.limits import limit_fields
from session_service.web.http.response import REQUEST_ID_HEADER, JsonResponse, Response
from session_service.web.http.state import AppState
from session_service.web.pages.table import page_endpoints
from session_service.web.request_log import LEAST_FAILURE, RequestLog, status_of
from session_service.web.rest import metrics, probes
from session_service.web.rest.endpoint import make_endpoint
from session_service.web.rest.route import Route, Tag, is_api_path
from session_service.web.rest.router import WHOLE_SERVER, Router
from session_service.web.rest.table import ROUTES, routes_of
from session_service.web.streaming.socketio import PATH, Sockets
from session_service.web.streaming.sse import stream_refusal
from session_service.web.targets import Targets

_PROBES = {route.path for route in ROUTES if route.tag is Tag.PROBES}

_is_sane_id = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch

# After these errors the next bytes of the client are not worth reading, or not understood.
_CLOSING = (PayloadTooLarge, CodingNotSupported, HttpVersionNotSupported)
# In the audit log: the fields for the ids of a path.
_IDS = {"sessionId": "session", "channelId": "session", "webhookId": "webhook"}


class App:
    """Finds the endpoint of a request and starts the response."""

    def __init__(self, state: AppState, max_sockets: int = 10_000) -> None:
        self._state = state
        self._sessions = state.repository
        self._admission = state.admission
        self._audit = state.audit
        self._browsers = state.browsers
        self._proxies = state.proxies
        self._has_limits = state.limits is not None
        self._fields = state.browsers.fields(None)  # for requests without Origin: most of them
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._router = Router[Endpoint]()
        self._find = self._router.find
        self._streams: set[Endpoint] = set()
        self._routes: dict[Endpoint, Route] = {}
        routes = routes_of(with_session_tokens=state.session_tokens is not None)
        self._paths: dict[Endpoint, str] = {}  # as templates
        for route in routes:
            endpoint = make_endpoint(route, state)
            self._add(route.method, route.path, endpoint)
            self._routes[endpoint] = route
            if route.streams:
                self._streams.add(endpoint)
        for path, page in page_endpoints(state, routes).items():
            self._add("GET", path, page)
        self._add("GET", metrics.PATH, metrics.guarded_metrics(state))
        self._metrics_router = self._make_metrics_router()
        for methods in (*self._router.every_path(), *self._metrics_router.every_path()):
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
        self._log = RequestLog(state)
        sockets = Sockets(state, max_sockets, self._log.write_event)
        for path in (PATH, PATH.removesuffix("/")):
            for method in ("GET", "POST"):
                self._add(method, path, sockets.handle)
        all_methods = {"OPTIONS"}.union(*self._router.every_path())
        for path in WHOLE_SERVER:
            self._add("OPTIONS", path, self._options(all_methods))
        for methods in (*self._router.every_path(), *self._metrics_router.every_path()):
            if "OPTIONS" not in methods:
                path = self._paths[next(iter(methods.values()))]
                methods["OPTIONS"] = options = self._options({"OPTIONS", *methods})
                self._paths[options] = path
        self._durations = RequestDurations(state.measures.numbers, self._paths)
        self._least_seconds = self._log.least_seconds
        self.target_of = Targets(self._router, self._paths).of

    def _add(self, method: str, path: str, endpoint: Endpoint) -> None:
        self._router.add(method, path, endpoint)
        self._paths[endpoint] = path

    def _make_metrics_router(self) -> Router[Endpoint]:
        """Return the router of METRICS_PORT, which has the metrics and the probes."""
        router = Router[Endpoint]()
        for route in probes.ROUTES:
            router.add(route.method, route.path, self._find(route.method, route.path)[0])
        router.add("GET", metrics.PATH, metrics.serve_metrics)
        self._paths[metrics.serve_metrics] = metrics.PATH
        return router

    async def handle(
        self,
        request: web.BaseRequest,
        *,
        close: bool = False,
        router: Router[Endpoint] | None = None,
    ) -> Response:
        """Return the response to a request, started; with ``close`` it closes the connection.

        Every error becomes a response. Raises ConnectionError if the client has gone.
        """
        response: Response
        endpoint: Endpoint | None = None
        started = time.perf_counter()
        headers = request.headers
        method = request.method
        request_id = headers.get(REQUEST_ID_HEADER)
        if not request_id or not _is_sane_id(request_id):
            request_id = self._new_request_id()
        REQUEST_ID.set(request_id)  # aiohttp runs each request in its own contextvars.Context
        proxies = self._proxies
        address = proxies.client_address(request) if proxies else request.remote or ""
        context = RequestContext(self._state, request_id, address, self._sessions)
        self._admission.request_begins()
        failure: Exception | None = None
        try:
            self._check_head(request)
            path = request.rel_url.raw_path
            # Probes and preflights are always served: they cost next to nothing.
            if self._admission.is_full and is_api_path(path) and method != "OPTIONS":
                raise Overloaded
            endpoint, ids = router.find(method, path) if router else self._find(method, path)
            response = await endpoint(context, request, ids)
        except ServiceError as error:
            response = self._refusal(request, error)
            close = close or isinstance(error, _CLOSING)
            failure = error.with_traceback(None)  # which would refer back to this frame
            endpoint = endpoint or self._endpoint_of(request, router)
        except ConnectionError:
            raise  # the client has gone; nobody waits for a response
        except Exception as error:  # noqa: BLE001 - a defect has a response and a line, too
            response = self._refusal(request, InternalError())
            failure = error
        finally:
            self._admission.request_ends()
        status = status_of(failure) if failure else response.status  # a stream's is 200
        if self._audit and status in REFUSALS:
            self._audit_refusal(self._audit, context, request, status)
        origin = headers.get(ORIGIN)
        fields = self._fields if origin is None else self._browsers.fields(origin)
        if self._has_limits and (standing := standing_after(request)):
            fields += limit_fields(standing)
        response.start(request, request_id, fields, close=close or self._state.draining)
        seconds = time.perf_counter() - started
        self._durations.observe(endpoint, method, response.status, seconds)
        if status >= LEAST_FAILURE or seconds >= self._least_seconds:
            return self._log.write(self.target_of(request), context, response, seconds, failure)
        return response

    def _check_head(self, request: web.BaseRequest) -> None:
        """Raise a ServiceError if the head of a request rules it out, whatever its path is."""
        headers = request.headers
        if "Expect" in headers and headers["Expect"].lower() != "100-continue":
            raise ExpectationFailed
        self._browsers.admit(request.method, headers)
        if request.version.major != 1:
            raise HttpVersionNotSupported
        if CONTENT_ENCODING in headers or TRANSFER_ENCODING in headers:
            check_codings(headers)

    async def handle_metrics(self, request: web.BaseRequest) -> Response:
        """Return the response to a request at METRICS_PORT."""
        return await self.handle(request, router=self._metrics_router)

    async def handle_probe(self, request: web.BaseRequest) -> Response:
        """Return the response to a probe, and refuse other requests.

        It serves connections above the limit, and closes them.
        """
        if request.rel_url.raw_path in _PROBES:
            return await self.handle(request, close=True)
        response = self._refusal(request, Overloaded())
        self._durations.observe(self._endpoint_of(request), request.method, response.status, 0.0)
        fields = self._browsers.fields(request.headers.get(ORIGIN))
        response.start(request, self._new_request_id(), fields, close=True)
        return response

    def _refusal(self, request: web.BaseRequest, error: ServiceError) -> Response:
        """Return the response to a request that failed; for a stream it may say when to retry."""
        if self._endpoint_of(request) in self._streams:
            return stream_refusal(error) or error_response(error)
        return error_response(error)

    def _endpoint_of(
        self, request: web.BaseRequest, router: Router[Endpoint] | None = None
    ) -> Endpoint | None:
        """Return the endpoint of a request, or None if there is none."""
        with suppress(ServiceError):
            return (router or self._router).find(request.method, request.rel_url.raw_path)[0]
        return None

    def _audit_refusal(
        self, audit: AuditLog, context: RequestContext, request: web.BaseRequest, status: int
    ) -> None:
        """Write an entry of the audit log about a request that is refused."""
        fields: dict[str, Any] = {"status": status}
        with suppress(ServiceError):
            endpoint, ids = self._find(request.method, request.rel_url.raw_path)
            if route := self._routes.get(endpoint):
                fields["operation"] = route.operation_id
                # Any text may be in the place of an id, even a token.
                named = zip(route.ids, ids, strict=True)
                fields |= {_IDS.get(name, name): each for name, each in named if is_uuid(each)}
        audit.record(
            AuditEvent.REFUSED,
            context.credential,
            context.address,
            Outcome.REFUSED,
            fields,
        )

    def _new_request_id(self) -> str:
        """Return the process's random name and a number, e.g. ``5f0c3a9be1d2-1a``."""
        return f"{self._name}-{next(self._numbers):x}"

    def _options(self, methods: set[str]) -> Endpoint:
        """Return the endpoint for OPTIONS, also for preflights, of a path with these methods."""
        allowed = ", ".join(sorted(methods))

        async def serve_options(
            _: RequestContext, request: web.BaseRequest, __: object
        ) -> Response:
            fields = self._browsers.preflight(request.headers, allowed)
            return JsonResponse(204, b"", (("Allow", allowed), *fields))

        return serve_options
