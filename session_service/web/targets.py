"""The targets of requests for logs and traces, without any text that may be a secret."""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web

from session_service.domain.errors import ServiceError
from session_service.domain.ids import is_uuid
from session_service.web.http.context import Endpoint
from session_service.web.rest.router import Router, ids_of
from session_service.web.rest.table import PUBLIC_PATHS, routes_of
from session_service.web.streaming.socketio import PATH

OTHER = "_OTHER"  # a method that HTTP does not know
_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)

# The segments of all paths, except for ids.
_WORDS = {
    segment
    for path in (
        *(route.path for route in routes_of(with_session_tokens=True)),
        *PUBLIC_PATHS,
        PATH,
    )
    for segment in path.split("/")
}


class Target(NamedTuple):
    """The target of a request."""

    method: str  # or _OTHER
    route: str  # the template, e.g. ``/api/messaging/sessions/{sessionId}``; "" if none matches
    path: str  # with … in place of anything but known words and UUIDs
    session_id: str  # that the path or the query names, or ""


class Targets:
    """Finds the target of a request; ``templates`` are the paths of the router's endpoints."""

    def __init__(self, router: Router[Endpoint], templates: Mapping[Endpoint, str]) -> None:
        self._find = router.find
        self._templates = {
            endpoint: (template, ids_of(template)) for endpoint, template in templates.items()
        }

    def of(self, request: web.BaseRequest) -> Target:
        """Return the target of a request."""
        url = request.rel_url
        path, route, session_id = url.raw_path, "", ""
        with suppress(ServiceError):
            endpoint, ids = self._find(request.method, path)
            route, names = self._templates[endpoint]
            named = dict(zip(names, ids, strict=True))
            session_id = named.get("sessionId") or named.get("channelId", "")
        session_id = session_id or url.query.get("sessionId", "").lower()
        return Target(
            request.method if request.method in _METHODS else OTHER,
            route,
            shown(path),
            session_id if is_uuid(session_id) else "",
        )


def shown(path: str) -> str:
    """Return a path for the log: any text of a client may be a token, which is never logged.

    So only the segments of known paths are shown, and UUIDs, e.g. ``/api/messaging/sessions/…``.
    """
    return "/".join(each if each in _WORDS or is_uuid(each) else "…" for each in path.split("/"))
