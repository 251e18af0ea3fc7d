"""Spans of calls of the store, within those of requests and deliveries."""

import asyncio
from functools import partial
from typing import Any

from opentelemetry.trace import Span, SpanKind, Tracer, get_current_span

from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, R, Script
from session_service.store.client.urls import StoreUrl
from session_service.store.records import unpack_id
from session_service.tracing import conventions as names
from session_service.tracing.conventions import SessionNames, fail


class TracedExecutor(ScriptExecutor):
    """Runs scripts on ``executor``, each in a span if it belongs to that of a request or an event.

    Background work, such as the sweep, has none: on an idle node there would be no others. The
    span has the session of the script or, if that names none, of the request.
    """

    def __init__(
        self, tracer: Tracer, sessions: SessionNames, executor: ScriptExecutor, url: StoreUrl
    ) -> None:
        self.spans_shards = executor.spans_shards
        self.signals = executor.signals
        self._tracer = tracer
        self._sessions = sessions
        self._executor = executor
        self._shared = _attributes(url)

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Send a script; the span ends with the reply."""
        span = self._begin(script.name, "EVALSHA")
        if span is None:
            return self._executor.submit(script, keys, arguments)
        if session_id := getattr(arguments, "session_id", ""):
            span.set_attributes(
                self._sessions.of(
                    session_id if isinstance(session_id, str) else unpack_id(session_id)
                )
            )
        reply = self._executor.submit(script, keys, arguments)
        reply.add_done_callback(partial(_end, span))
        return reply

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on each master, in one span."""
        span = self._begin(" ".join(str(words[0]) for words in commands))
        try:
            replies = await self._executor.run_on_masters(*commands)
        except BaseException as error:
            if span is not None:
                fail(span, type(error).__qualname__)
            raise
        finally:
            if span is not None:
                span.end()
        return replies

    async def close(self) -> None:
        """Close the executor."""
        await self._executor.close()

    def _begin(self, operation: str, command: str = "") -> Span | None:
        """Start a span, or return None if the call belongs to no span that is recorded."""
        parent = get_current_span()
        if not parent.is_recording():
            return None
        summary = f"{command} {operation}".lstrip()
        attributes = {
            **self._shared,
            **self._sessions.shared_by(parent),
            names.DB_OPERATION: operation,
            names.DB_SUMMARY: summary,
        }
        return self._tracer.start_span(summary, kind=SpanKind.CLIENT, attributes=attributes)


def _end(span: Span, reply: asyncio.Future[Any]) -> None:
    if reply.cancelled():
        fail(span, "CancelledError")
    elif error := reply.exception():
        fail(span, type(error).__qualname__)
    span.end()


def _attributes(url: StoreUrl) -> dict[str, Any]:
    """Return the attributes of all calls; Valkey counts as redis, which the conventions know."""
    attributes: dict[str, Any] = {names.DB_SYSTEM: "redis"}
    if url.kind in ("", "sentinel"):
        attributes[names.DB_NAMESPACE] = str(url.options.get("db", 0))
    if url.path:
        attributes[names.SERVER_ADDRESS] = url.path
    elif url.kind == "" and len(url.hosts) == 1:
        attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = url.hosts[0]
    return attributes
