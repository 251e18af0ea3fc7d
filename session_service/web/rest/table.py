"""The route table: all routes, by topic.

The application is built from it, and so is the API document.
"""

from session_service.web.rest import events, messages, probes, sessions, webhooks

ROUTES = (
    *sessions.ROUTES,
    *messages.ROUTES,
    *webhooks.ROUTES,
    *events.ROUTES,
    *probes.ROUTES,
)
