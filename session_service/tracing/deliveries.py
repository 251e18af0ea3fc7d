"""Spans of deliveries to webhooks, each the root of a trace that the endpoint continues.

The request that caused an event is not known here: another node may have served it, and the event
has no room for its trace. ``session.id`` joins the two.
"""

from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from session_service.background.webhook_client import WebhookClient
from session_service.domain.webhooks import Outcome, Webhook, WebhookPolicy
from session_service.store.webhooks.queue import Delivery
from session_service.tracing import conventions as names
from session_service.tracing.conventions import PROPAGATOR, SessionNames, fail


class TracedWebhookClient(WebhookClient):
    """Makes each delivery in a span, and sends its ``traceparent``."""

    def __init__(self, tracer: Tracer, sessions: SessionNames, policy: WebhookPolicy) -> None:
        super().__init__(policy)
        self._tracer = tracer
        self._sessions = sessions

    async def post(self, webhook: Webhook, delivery: Delivery) -> Outcome:
        """Send the event of a delivery to the endpoint, and return the outcome."""
        event = delivery.event
        url = urlsplit(webhook.target.url)
        attributes: dict[str, str | int] = {
            names.METHOD: "POST",
            names.URL_SCHEME: url.scheme,
            names.SERVER_ADDRESS: url.hostname or "",  # the path may contain a secret
            names.SERVER_PORT: url.port or (443 if url.scheme == "https" else 80),
            names.EVENT_ID: event.id,
            names.EVENT_TYPE: f"session.{event.type}",
            names.WEBHOOK: webhook.id,
            **self._sessions.of(event.session_id),
        }
        if delivery.failures:
            attributes[names.RESEND_COUNT] = delivery.failures
        with self._tracer.start_as_current_span(
            "POST", Context(), SpanKind.CLIENT, attributes
        ) as span:
            outcome = await super().post(webhook, delivery)
            if outcome.status:
                span.set_attribute(names.STATUS, outcome.status)
            if outcome.failure:
                fail(span, str(outcome.status) if outcome.status else outcome.failure)
            return outcome

    def more_headers(self) -> dict[str, str]:
        """Return the headers ``traceparent`` and ``tracestate``."""
        headers: dict[str, str] = {}
        PROPAGATOR.inject(headers)
        return headers
