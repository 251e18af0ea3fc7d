"""The context of a request, the first argument of handlers of REST, streams and Socket.IO."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from msgspec import Struct

from session_service.domain.credentials import Credential
from session_service.store.sessions.repository import SessionRepository
from session_service.web.http.create_limit import PageAddress
from session_service.web.http.response import Response
from session_service.web.http.state import AppState


class RequestContext(Struct, frozen=True, gc=False):
    """Everything a handler needs besides the ids, query and body of the request.

    ``sessions`` is scoped to the caller, and to the Idempotency-Key if the request has one.
    ``request_id`` is the one in the log, e.g. ``5f0c3a9be1d2-1a``, and ``address`` the client's,
    e.g. ``192.0.2.7``. A Socket.IO connection has one context, that of the request which connected
    it. The garbage collector may skip contexts, since nothing in them refers back to them.
    """

    state: AppState
    request_id: str
    address: str
    sessions: SessionRepository
    credential: Credential = Credential.OPEN
    page: PageAddress | None = None  # of a page that may create a session, to be counted


# Takes the context, the request and the ids of its path. Raises ServiceError.
Endpoint = Callable[[RequestContext, web.BaseRequest, tuple[str, ...]], Awaitable[Response]]
