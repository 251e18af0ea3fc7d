"""Makes endpoints of routes: functions of a context, a request and the ids of its path."""

from collections.abc import Awaitable

from aiohttp import web
from msgspec.structs import replace

from session_service.access.authenticator import Authenticator
from session_service.domain.credentials import Credential, Permission
from session_service.domain.errors import NotAuthenticated, NotPermitted, ValidationFailed
from session_service.web.http.authentication import credential_in
from session_service.web.http.bodies import read_body
from session_service.web.http.charging import charge_address, serve
from session_service.web.http.context import Endpoint, RequestContext
from session_service.web.http.decoding import RequestDecoder
from session_service.web.http.limits import RequestLimits
from session_service.web.http.response import Response
from session_service.web.http.state import AppState
from session_service.web.rest.idempotency import idempotent
from session_service.web.rest.route import IDEMPOTENCY_KEY, Public, Route


def make_endpoint(route: Route, state: AppState) -> Endpoint:
    """Return the endpoint of a route, which honours Idempotency-Key, for permitted requests."""
    endpoint = _honour_key(route, _call_handler(route, state), state)
    if state.access and not isinstance(route.access, Public):
        return guard(
            endpoint,
            route.access,
            state,
            state.access,
            in_query=route.streams,
            is_of_session=bool(route.ids),
            by_script=route.is_charged_by_script,
        )
    if state.limits and state.limits.addresses:
        return _limit_address(route, endpoint, state.limits)
    return endpoint


def _limit_address(route: Route, endpoint: Endpoint, limits: RequestLimits) -> Endpoint:
    """Return an endpoint that charges each request to its address: nothing has a credential."""
    if isinstance(route.access, Public):
        return endpoint

    async def limited(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        charge_address(limits, context, request)
        return await endpoint(context, request, ids)

    return limited


def guard(
    endpoint: Endpoint,
    needed: Permission,
    state: AppState,
    access: Authenticator,
    *,
    in_query: bool = False,
    is_of_session: bool = False,
    by_script: bool = False,
) -> Endpoint:
    """Return an endpoint that first finds the credential, and checks its permission.

    The handler gets a repository that is limited to the sessions which exist for the credential.
    The request is charged to the limit of the credential, or of its address if it has none. The
    credential may be ``in_query``; a session token is for requests of a session only, and
    ``by_script`` is ``Route.is_charged_by_script``.
    """
    limits = state.limits

    def check(credential: Credential) -> None:
        credential.require(needed)
        if credential.session is not None and not is_of_session:
            raise NotPermitted("A session token is for requests that name its session.")

    def serve_caller(
        credential: Credential,
        context: RequestContext,
        request: web.BaseRequest,
        ids: tuple[str, ...],
    ) -> Awaitable[Response]:
        context.credential = credential
        context.sessions = state.sessions_for(credential)
        if limits is None:
            check(credential)
            return endpoint(context, request, ids)

        async def work(context: RequestContext) -> Response:
            check(credential)
            return await endpoint(context, request, ids)

        return serve(limits, context, work, request, by_script=by_script)

    async def identify_first(
        text: str | None, context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        try:
            credential = await access.identify(text)
        except NotAuthenticated:
            if limits:
                charge_address(limits, context, request)
            raise
        return await serve_caller(credential, context, request, ids)

    def guarded(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Awaitable[Response]:
        try:
            text = credential_in(request, in_query=in_query)
        except (NotAuthenticated, ValidationFailed):
            if limits:
                charge_address(limits, context, request)
            raise
        if credential := access.find(text):  # no coroutine of its own: that would cost 0.2 us
            return serve_caller(credential, context, request, ids)
        return identify_first(text, context, request, ids)

    return guarded


def _honour_key(route: Route, endpoint: Endpoint, state: AppState) -> Endpoint:
    """Return an endpoint that honours Idempotency-Key, and counts creations by pages."""
    if not route.takes_idempotency_key:
        return endpoint
    with_key = idempotent(route, endpoint)
    creations = state.creations
    is_limited = route.is_limited

    def dispatch(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Awaitable[Response]:
        if is_limited and (page := creations.page_of(request)):
            context = replace(context, page=page)
        return (with_key if IDEMPOTENCY_KEY in request.headers else endpoint)(context, request, ids)

    return dispatch


def _call_handler(route: Route, state: AppState) -> Endpoint:
    """Return the endpoint that calls a handler with the ids, then the decoded body or query."""
    handler, has_body = route.handler, route.body is not None
    request_type = route.body or route.query
    if request_type is None:
        if len(route.ids) == 1:  # GET and DELETE: unpacking the ids costs 0.1 us more
            return lambda context, _, ids: handler(context, ids[0])
        return lambda context, _, ids: handler(context, *ids)
    decoder = RequestDecoder(request_type, state.policy)

    async def call(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        decoded = (
            decoder.body(await read_body(request, state.admission))
            if has_body
            else decoder.query(request)
        )
        return await handler(context, *ids, decoded)

    return call
