"""The first screen: name, version, store and links; HTML for browsers, JSON for others."""

from html import escape
from string import Template

import msgspec
from aiohttp import web

from session_service import __version__
from session_service.web.http.context import RequestContext
from session_service.web.http.response import BytesResponse, JsonResponse, encode
from session_service.web.http.state import AppState
from session_service.web.pages.admin import shows_live_page
from session_service.web.pages.assets import PageResponse, read_file
from session_service.web.pages.lazy import Lazy
from session_service.web.pages.negotiation import prefers_html

NAME = "session-service"
_DESCRIPTION = "Conversation sessions for chat and agent backends"

_LIVE_PAGE = ("./admin", "Live page", "sessions, events, webhooks and figures, as they change")

# Relative to the page, for proxies that serve it below a path.
_LINKS = {
    "docs": ("./docs", "API documentation", "every operation, with a console to try it"),
    "openapi": ("./openapi.json", "openapi.json", "the API document, for programs"),
    "openapiYaml": ("./openapi.yaml", "openapi.yaml", "the API document, for reading"),
    "health": (
        "./api/messaging/sessions/health",
        "Health",
        "counts, and the reasons why the service is degraded",
    ),
    "metrics": (
        "./metrics",
        "Metrics",
        "for Prometheus; from this machine without a proxy, or with a credential",
    ),
    "live": ("./healthz", "healthz", "whether the process is alive"),
    "ready": ("./readyz", "readyz", "whether the service can handle requests"),
}
_LINK = Template('      <li><a href="$href">$text</a><span>$purpose</span></li>')


class Home(msgspec.Struct, rename="camel"):
    """The first screen as JSON."""

    name: str
    version: str
    description: str
    store: str  # e.g. Valkey 9.1.0, one server; persistence: append-only file
    access_control: bool
    links: dict[str, str]  # relative to this address, e.g. ./docs


class HomePage:
    """The endpoint of ``/``."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._template = Lazy(lambda: Template(read_file("home.html").decode()))

    async def serve(
        self, _: RequestContext, request: web.BaseRequest, __: tuple[str, ...]
    ) -> BytesResponse:
        """Return the page in the form that the client asks for."""
        has_live_page = shows_live_page(self._state, request)
        links = {"admin": _LIVE_PAGE, **_LINKS} if has_live_page else _LINKS
        home = Home(
            NAME,
            __version__,
            _DESCRIPTION,
            self._state.describe_store(),
            self._state.access is not None,
            {name: href for name, (href, _, _) in links.items()},
        )
        varies = (("Vary", "Accept"),)
        if not prefers_html(request.headers):
            body = msgspec.json.format(encode(home), indent=2) + b"\n"
            return JsonResponse(200, body, varies)
        page = (await self._template.get()).substitute(
            name=escape(home.name),
            version=escape(home.version),
            description=escape(home.description),
            store=escape(home.store),
            access="on: requests need a credential" if home.access_control else "off",
            links="\n".join(
                _LINK.substitute(href=escape(href), text=escape(text), purpose=escape(purpose))
                for href, text, purpose in links.values()
            ),
        )
        return PageResponse(200, page.encode(), "text/html; charset=utf-8", varies)
