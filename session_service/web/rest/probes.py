"""Probes of the process: their handlers and routes."""

from session_service.api.health import ProbeStatus
from session_service.domain.errors import StoreUnavailable
from session_service.web.http.errors import NotReady
from session_service.web.http.response import Answer, encode
from session_service.web.http.state import AppState
from session_service.web.rest.route import Route


async def healthz(_: AppState) -> Answer:
    """Tell that the process lives."""
    return Answer(200, encode(ProbeStatus("ok")))


async def readyz(service: AppState) -> Answer:
    """Tell whether requests can be served: the store answers, and the service is not stopping."""
    if service.draining:
        raise NotReady
    await service.repository.ping()
    return Answer(200, encode(ProbeStatus("ready")))


ROUTES = (
    Route(
        "GET",
        "/healthz",
        healthz,
        "Liveness",
        "Tell that the process lives",
        200,
        ProbeStatus,
        "It does",
    ),
    Route(
        "GET",
        "/readyz",
        readyz,
        "Readiness",
        "Tell whether requests can be served",
        200,
        ProbeStatus,
        "They can",
        (StoreUnavailable, NotReady),
    ),
)
