"""The targets of requests for logs and traces, without any text that may be a secret."""

from collections.abc import Mapping

from aiohttp import web

from session_service.domain.errors import ServiceError
from session_service.domain.ids import is_uuid
from session_service.metrics.catalogue import OTHER
from session_service.web.http.context import Endpoint
from session_service.web.http.durations import METHODS
from session_service.web.rest import metrics
from session_service.web.rest.router import Router, ids_of
from session_service.web.rest.table import PUBLIC_PATHS, routes_of
from session_service.web.streaming.socketio import PATH

# The segments of all paths, except for ids.
_WORDS = {
    segment
    for path in (
        *(route.path for route in routes_of(with_session_tokens=True)),
        *PUBLIC_PATHS,
        PATH,
        metrics.PATH,
    )
    for segment in path.split("/")
}


class Target:
    """The target of a request. ``path`` and ``session_id`` are found when they are read."""

    __slots__ = ("_ids", "_request", "method", "route")

    def __init__(self, request: web.BaseRequest, route: str, ids: Mapping[str, str]) -> None:
        self.method = request.method if request.method in METHODS else OTHER
        self.route = route  # e.g. ``/api/messaging/sessions/{sessionId}``; "" if none matches
        self._ids = ids
        self._request = request

    @property
    def path(self) -> str:
        """The path, with … in place of anything but known words and UUIDs."""
        return shown(self._request.rel_url.raw_path)

    @property
    def session_id(self) -> str:
        """The session that the path or the query names, or ""."""
        found = self._ids.get("sessionId") or self._ids.get("channelId")
        found = found or self._request.query.get("sessionId", "").lower()
        return found if is_uuid(found) else ""


class Targets:
    """Finds the target of a request; ``templates`` are the paths of the router's endpoints."""

    def __init__(self, router: Router[Endpoint], templates: Mapping[Endpoint, str]) -> None:
        self._find = router.find
        self._templates = {
            endpoint: (template, ids_of(template)) for endpoint, template in templates.items()
        }

    def of(self, request: web.BaseRequest) -> Target:
        """Return the target of a request."""
        try:
            endpoint, ids = self._find(request.method, request.rel_url.raw_path)
        except ServiceError:  # no route matches
            return Target(request, "", {})
        route, names = self._templates[endpoint]
        return Target(request, route, dict(zip(names, ids, strict=True)))


def shown(path: str) -> str:
    """Return a path for the log: any text of a client may be a token, which is never logged.

    So only the segments of known paths are shown, and UUIDs, e.g. ``/api/messaging/sessions/…``.
    """
    return "/".join(each if each in _WORDS or is_uuid(each) else "…" for each in path.split("/"))
