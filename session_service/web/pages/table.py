"""The pages by path, which the application adds to its router; each is in ``PUBLIC_PATHS``.

Another page is an HTML file in ``files/``, its scripts and styles, and a line for each here. Its
addresses are relative (``assets/docs.js``), for proxies that serve the service below a path.
"""

from session_service.web.http.context import Endpoint
from session_service.web.http.state import AppState
from session_service.web.pages.admin import LivePage
from session_service.web.pages.assets import Asset
from session_service.web.pages.documents import document_endpoints
from session_service.web.pages.home import HomePage
from session_service.web.rest.route import Route

_ASSETS = {
    "/docs": "docs.html",
    "/favicon.svg": "favicon.svg",
    "/favicon.ico": "favicon.svg",
    "/assets/admin/admin.css": "admin/admin.css",
    "/assets/admin/api.js": "admin/api.js",
    "/assets/admin/app.js": "admin/app.js",
    "/assets/admin/figures.js": "admin/figures.js",
    "/assets/admin/format.js": "admin/format.js",
    "/assets/admin/overview.js": "admin/overview.js",
    "/assets/admin/parts.js": "admin/parts.js",
    "/assets/admin/prometheus.js": "admin/prometheus.js",
    "/assets/admin/session.js": "admin/session.js",
    "/assets/admin/sessions.js": "admin/sessions.js",
    "/assets/admin/stream.js": "admin/stream.js",
    "/assets/admin/timeline.js": "admin/timeline.js",
    "/assets/admin/webhooks.js": "admin/webhooks.js",
    "/assets/admin/htm-preact.js": "preact/htm-preact.js",
    "/assets/docs.css": "docs.css",
    "/assets/docs.js": "docs.js",
    "/assets/pages.css": "pages.css",
    "/assets/swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    "/assets/swagger-ui.css": "swagger-ui/swagger-ui.css",
}


def page_endpoints(state: AppState, routes: tuple[Route, ...]) -> dict[str, Endpoint]:
    """Return the endpoints for GET by path; ``routes`` are those in the API document."""
    return {
        "/": HomePage(state).serve,
        "/admin": LivePage(state).serve,
        **document_endpoints(state, routes),
        **{path: Asset(name).serve for path, name in _ASSETS.items()},
    }
