"""The route table: the routes of all topics.

Both the application and the API document are built from it.
"""

from session_service.web.rest import collection, events, messages, probes, sessions, webhooks

ROUTES = (
    *sessions.ROUTES,
    *collection.ROUTES,
    *messages.ROUTES,
    *webhooks.ROUTES,
    *events.ROUTES,
    *probes.ROUTES,
)
