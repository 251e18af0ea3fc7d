"""The tracer of a process: of its requests, its calls of the store, and its deliveries.

Spans are collected in memory, and a thread sends them, so that no request waits for the collector.
While it is away, the oldest spans are dropped.
"""

import asyncio
import logging
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from session_service import __version__
from session_service.domain.budgets import TRACE_FLUSH_SECONDS
from session_service.domain.webhooks import WebhookPolicy
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.urls import StoreUrl
from session_service.tracing.conventions import SessionNames
from session_service.tracing.deliveries import TracedWebhookClient
from session_service.tracing.events import EventHandler, TracedEvent
from session_service.tracing.requests import Handle, TracedRequests
from session_service.tracing.store import TracedExecutor
from session_service.tracing_settings import TracingSettings
from session_service.web.targets import Target

log = logging.getLogger(__name__)


class Tracing:
    """Makes the traced parts of the service; ``close`` sends the spans that are left.

    The variables ``OTEL_…`` configure the sampler, the batches, the resource and the exporter.
    """

    def __init__(self, settings: TracingSettings, processor: SpanProcessor | None = None) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(_exporter(settings)))
        self._tracer = self._provider.get_tracer("session_service", __version__)
        self._sessions = SessionNames(with_conversation=settings.with_conversation)

    def of_store(self, executor: ScriptExecutor, url: StoreUrl) -> ScriptExecutor:
        """Return an executor that traces the calls of another."""
        return TracedExecutor(self._tracer, self._sessions, executor, url)

    def of_requests(self, handle: Handle, target_of: Callable[[web.BaseRequest], Target]) -> Handle:
        """Return a handler of requests that traces those of another."""
        return TracedRequests(self._tracer, self._sessions, handle, target_of).handle

    def of_event(self, name: str, handle: EventHandler) -> EventHandler:
        """Return a handler of an event from sockets that traces those of another."""
        return TracedEvent(self._tracer, self._sessions, name, handle).handle

    def webhook_client(self, policy: WebhookPolicy) -> TracedWebhookClient:
        """Return a client of webhooks that traces its deliveries."""
        return TracedWebhookClient(self._tracer, self._sessions, policy)

    async def close(self) -> None:
        """Send the spans that are left, for TRACE_FLUSH_SECONDS at most."""
        closed, loop = asyncio.Event(), asyncio.get_running_loop()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(closed.set)

        # A daemon: the process does not wait for a collector that does not answer.
        threading.Thread(target=close, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(TRACE_FLUSH_SECONDS):
                await closed.wait()
        except TimeoutError:
            log.warning("traces: the collector does not answer; the last spans are lost")


def _exporter(settings: TracingSettings) -> SpanExporter:
    # The standard output of a worker is read for one line only.
    return ConsoleSpanExporter(out=sys.stderr) if settings.to_console else OTLPSpanExporter()


def _resource() -> Resource:
    """Return the attributes of this process; OTEL_SERVICE_NAME may name the service otherwise."""
    ours = {"service.version": __version__, "service.instance.id": str(uuid.uuid4())}
    given = Resource.create()
    if str(given.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        given = given.merge(Resource({SERVICE_NAME: "session-service"}))
    return Resource(ours).merge(given)
