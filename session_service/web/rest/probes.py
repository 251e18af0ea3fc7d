"""Handlers and routes of the probes of orchestrators and load balancers."""

from session_service.api.health import ProbeStatus
from session_service.domain.errors import StoreUnavailable
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import NotReady
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import PUBLIC, Route, Tag


async def healthz(_: RequestContext) -> JsonResponse:
    """Report that the process is alive."""
    return JsonResponse(200, encode(ProbeStatus("ok")))


async def readyz(context: RequestContext) -> JsonResponse:
    """Report whether the service can handle requests.

    It can if its store answers and it is not stopping.
    """
    if context.state.draining:
        raise NotReady
    await context.sessions.ping()
    return JsonResponse(200, encode(ProbeStatus("ready")))


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=healthz,
        tag=Tag.PROBES,
        access=PUBLIC,
        response=ProbeStatus,
        success="It does",
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        tag=Tag.PROBES,
        access=PUBLIC,
        response=ProbeStatus,
        success="They can",
        errors=(StoreUnavailable, NotReady),
    ),
)
