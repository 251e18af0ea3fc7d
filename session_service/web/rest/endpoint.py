"""Makes endpoints of routes: functions of a context, a request and the ids of its path."""

from collections.abc import Awaitable

from aiohttp import web
from msgspec.structs import replace

from session_service.access.authenticator import Authenticator
from session_service.domain.errors import NotPermitted
from session_service.store.sessions.scope import Scope
from session_service.web.http.authentication import CREDENTIAL, credential_in
from session_service.web.http.bodies import read_body
from session_service.web.http.context import Endpoint, RequestContext
from session_service.web.http.decoding import RequestDecoder
from session_service.web.http.response import Response
from session_service.web.http.state import AppState
from session_service.web.rest.idempotency import idempotent
from session_service.web.rest.route import IDEMPOTENCY_KEY, Public, Route


def make_endpoint(route: Route, state: AppState) -> Endpoint:
    """Return the endpoint of a route, which honours Idempotency-Key, for permitted requests."""
    endpoint = _honour_key(route, _call_handler(route, state), state)
    return _guard(route, endpoint, state.access) if state.access else endpoint


def _guard(route: Route, endpoint: Endpoint, access: Authenticator) -> Endpoint:
    """Return an endpoint that first finds the credential, and checks it against the route.

    The handler gets a repository that is limited to the sessions which exist for the credential.
    """
    needed = route.access
    if isinstance(needed, Public):
        return endpoint
    in_query, is_of_session = route.streams, bool(route.ids)

    async def guard(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        credential = await access.identify(credential_in(request, in_query=in_query))
        request[CREDENTIAL] = credential
        credential.require(needed)
        if credential.session is not None and not is_of_session:
            raise NotPermitted("A session token is for requests that name its session.")
        scope = Scope(context.sessions.scope.executor, credential=credential)
        context = RequestContext(
            context.state,
            context.request_id,
            context.address,
            context.sessions.scoped(scope),
            credential,
        )
        return await endpoint(context, request, ids)

    return guard


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
