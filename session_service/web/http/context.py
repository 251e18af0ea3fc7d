"""The context of a request: what handlers of REST, streams and Socket.IO take first."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from msgspec import Struct

from session_service.domain.callers import Caller
from session_service.store.sessions.repository import SessionRepository
from session_service.web.http.response import Response
from session_service.web.http.state import AppState


class RequestContext(Struct, frozen=True, gc=False):
    """What is known of a request beyond its path, query and body.

    ``sessions`` is scoped to the request's caller, and for a request with an Idempotency-Key to
    that key. ``address`` is the client's, such as ``192.0.2.7``. A Socket.IO connection has one
    context, made from the request that connected it. Collecting garbage skips contexts, because
    nothing that they refer to refers back.
    """

    state: AppState
    request_id: str
    address: str
    sessions: SessionRepository
    caller: Caller = Caller.ANONYMOUS


# Takes the context, the request and the ids of its path. Raises ServiceError.
Endpoint = Callable[[RequestContext, web.BaseRequest, tuple[str, ...]], Awaitable[Response]]
