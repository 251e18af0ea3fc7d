"""The route table: the routes of all topics.

Both the application and the API document are built from it.
"""

from session_service.web.rest import (
    collection,
    events,
    messages,
    probes,
    session_tokens,
    sessions,
    webhooks,
)
from session_service.web.rest.route import Route

ROUTES = (
    *sessions.ROUTES,
    *collection.ROUTES,
    *messages.ROUTES,
    *webhooks.ROUTES,
    *events.ROUTES,
    *probes.ROUTES,
)

# Served without a credential, also if access control is on: they show no data. A public route or
# page must be listed here.
PUBLIC_PATHS = frozenset(
    (
        "/",
        "/admin",
        "/assets/admin/admin.css",
        "/assets/admin/api.js",
        "/assets/admin/app.js",
        "/assets/admin/figures.js",
        "/assets/admin/format.js",
        "/assets/admin/htm-preact.js",
        "/assets/admin/overview.js",
        "/assets/admin/parts.js",
        "/assets/admin/prometheus.js",
        "/assets/admin/session.js",
        "/assets/admin/sessions.js",
        "/assets/admin/stream.js",
        "/assets/admin/timeline.js",
        "/assets/admin/webhooks.js",
        "/assets/docs.css",
        "/assets/docs.js",
        "/assets/pages.css",
        "/assets/swagger-ui-bundle.js",
        "/assets/swagger-ui.css",
        "/docs",
        "/favicon.ico",
        "/favicon.svg",
        "/healthz",
        "/openapi.json",
        "/openapi.yaml",
        "/readyz",
    )
)


def routes_of(*, with_session_tokens: bool) -> tuple[Route, ...]:
    """Return the routes of a service; without session tokens, their route does not exist."""
    return (*ROUTES, *session_tokens.ROUTES) if with_session_tokens else ROUTES
