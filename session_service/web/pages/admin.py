"""The live page, ``/admin``: only with access control, or for a client on this machine.

The page has no data: it reads them from the API, with the credential of the person.
"""

from aiohttp import web

from session_service.web.http.client_addresses import is_on_this_machine
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import RouteNotFound
from session_service.web.http.state import AppState
from session_service.web.pages.assets import Asset, PageResponse


def shows_live_page(state: AppState, request: web.BaseRequest) -> bool:
    """Return whether the sender of a request may open the live page."""
    return state.access is not None or is_on_this_machine(request)


class LivePage:
    """The endpoint of ``/admin``."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._asset = Asset("admin/admin.html")

    async def serve(
        self, context: RequestContext, request: web.BaseRequest, ids: tuple[str, ...]
    ) -> PageResponse:
        """Return the page; raises RouteNotFound if it is off for the sender."""
        if not shows_live_page(self._state, request):
            raise RouteNotFound(
                "Turn access control on (AUTH=on), or open the page on the service's own machine,"
                " without a proxy in between.",
                message="The live page is off here",
            )
        return await self._asset.serve(context, request, ids)
