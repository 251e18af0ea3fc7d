"""``GET /metrics``, for Prometheus; at the port of the API not for everyone."""

from aiohttp import web

from session_service.domain.credentials import Permission
from session_service.metrics.exposition import expose
from session_service.web.http.client_addresses import is_on_this_machine
from session_service.web.http.context import Endpoint, RequestContext
from session_service.web.http.errors import Forbidden
from session_service.web.http.response import BytesResponse, Response
from session_service.web.http.state import AppState
from session_service.web.rest.endpoint import guard

PATH = "/metrics"


class _MetricsResponse(BytesResponse):
    """The metrics in the format that the request asks for."""

    __slots__ = ("content_type",)

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__(200, body)
        self.content_type = content_type


async def serve_metrics(
    context: RequestContext, request: web.BaseRequest, _: tuple[str, ...]
) -> Response:
    """Return the metrics of all workers of the node."""
    measures = context.state.measures
    accept = request.headers.get("Accept", "")
    return _MetricsResponse(*expose(measures.numbers, await measures.read_gauges(), accept))


def guarded_metrics(state: AppState) -> Endpoint:
    """Return the endpoint in the port of the API.

    It serves clients on this machine, and credentials that may read metrics.
    """
    by_credential = (
        guard(serve_metrics, Permission.METRICS_READ, state, state.access)
        if state.access
        else _refuse
    )

    async def serve(
        context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> Response:
        is_free = is_on_this_machine(request)
        return await (serve_metrics if is_free else by_credential)(context, request, ids)

    return serve


async def _refuse(*_: object) -> Response:
    raise Forbidden(
        "The metrics are not for other machines here",
        "Set METRICS_PORT and read them from that port, or turn access control on and send a"
        " credential with the scope metrics:read.",
        "metrics",
    )
