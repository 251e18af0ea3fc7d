"""Traces: spans of requests, events from sockets, calls of the store, and deliveries."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_trace_id

from session_service import logs
from session_service.composition import Store, open_store
from session_service.domain.addresses import EVERYWHERE
from session_service.domain.events import Event, EventId
from session_service.domain.webhooks import Target, Webhook, WebhookPolicy
from session_service.store.webhooks.queue import Delivery
from session_service.tracing import tracer
from session_service.tracing.tracer import Tracing
from session_service.tracing_settings import TracingSettings
from tests.support.access import KnownCredentials
from tests.support.api import SESSIONS, Client, create
from tests.support.factories import ID, store_settings
from tests.support.service import ServiceUnderTest, app_state
from tests.support.sockets import Socket
from tests.support.sse import EVENTS, follow
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, Receiver

UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Serve = Callable[..., Any]


class Spans(InMemorySpanExporter):
    """The spans that have ended."""

    def take(self) -> list[ReadableSpan]:
        """Return the spans since the last call, in the order in which they ended."""
        found = list(self.get_finished_spans())
        self.clear()
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def settings_of_traces() -> TracingSettings:
    return TracingSettings(is_on=True)


@pytest.fixture
def tracing(spans: Spans, settings_of_traces: TracingSettings) -> Tracing:
    return Tracing(settings_of_traces, SimpleSpanProcessor(spans))


@pytest.fixture
async def serve(tracing: Tracing, aiohttp_client: Callable[..., Any]) -> AsyncIterator[Serve]:
    """Return the function that serves a store, and returns a client."""
    async with open_store(store_settings("memory://"), traced=tracing.of_store) as store:

        async def serve(store: Store = store, **options: Any) -> Client:
            service = app_state(store, tracing=tracing, **options)
            client: Client = await aiohttp_client(ServiceUnderTest(service))
            return client

        yield serve


def ids(span: ReadableSpan) -> tuple[str, int, int | None]:
    """Return the ids of a span's trace, of the span and of its parent."""
    context = span.get_span_context()
    assert context
    return format_trace_id(context.trace_id), context.span_id, span.parent and span.parent.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_and_its_call_of_the_store(serve: Serve, spans: Spans) -> None:
    """The request continues the caller's trace, and the call of the store is its child."""
    client = await serve()
    session_id = (await create(client))["sessionId"]
    spans.clear()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert (await client.delete(f"{SESSIONS}/{session_id}", headers=headers)).status == 200
    call, request = spans.take()
    trace, request_id, parent = ids(request)
    assert (trace, parent) == (TRACE, int(PARENT, 16))
    assert ids(call)[::2] == (TRACE, request_id)
    assert (request.name, request.kind.name) == (f"DELETE {SESSIONS}/{{sessionId}}", "SERVER")
    assert attributes(request) == {
        "http.request.method": "DELETE",
        "http.route": f"{SESSIONS}/{{sessionId}}",
        "http.response.status_code": 200,
        "url.path": f"{SESSIONS}/{session_id}",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": client.port,
        "session.id": session_id,
    }
    assert (call.name, call.kind.name) == ("EVALSHA end", "CLIENT")
    assert attributes(call) == {
        "db.system.name": "redis",
        "db.operation.name": "end",
        "db.query.summary": "EVALSHA end",
        "session.id": session_id,
    }
    assert {request.status.status_code, call.status.status_code} == {StatusCode.UNSET}


async def test_a_creation_names_the_session(serve: Serve, spans: Spans) -> None:
    """The span of a creation has the id of the new session, which the request did not have."""
    client = await serve()
    session_id = (await create(client))["sessionId"]
    call, request = spans.take()
    assert (call.name, request.name) == ("EVALSHA create", f"POST {SESSIONS}")
    assert {attributes(each)["session.id"] for each in (call, request)} == {session_id}


async def test_a_caller_may_decide_against_a_trace(serve: Serve, spans: Spans) -> None:
    """If the traceparent is not sampled, there are no spans; an invalid one is ignored."""
    client = await serve()
    await client.get(SESSIONS, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert spans.take() == []
    await client.get("/healthz", headers={"traceparent": "00-x"})
    (request,) = spans.take()
    assert (request.name, request.parent) == ("GET /healthz", None)


async def test_failures(serve: Serve, tracing: Tracing, spans: Spans) -> None:
    """A 5xx makes the spans fail, with the type of the error; a 4xx does not."""
    client = await serve()
    await client.get(f"{SESSIONS}/{UNKNOWN}")
    call, request = spans.take()
    assert attributes(request)["http.response.status_code"] == 404
    assert "error.type" not in attributes(request) | attributes(call)
    settings = store_settings("redis://127.0.0.1:1/0", store_timeout=1)
    async with open_store(settings, traced=tracing.of_store) as store:
        client = await serve(store)
        assert (await client.get(f"{SESSIONS}/{UNKNOWN}")).status == 503
    call, request = spans.take()
    assert attributes(call)["error.type"] == "StoreUnavailable"
    assert attributes(call)["server.port"] == 1
    assert attributes(request)["error.type"] == "503"
    assert {request.status.status_code, call.status.status_code} == {StatusCode.ERROR}


async def test_no_span_has_a_text_of_the_client(serve: Serve, spans: Spans) -> None:
    """Neither a token in a path or query nor a credential is in a span."""
    client = await serve(access=KnownCredentials())
    secret = "sk-not-to-be-traced"  # noqa: S105 - of nothing
    await client.get(f"/{secret}", headers={"X-API-KEY": secret})
    await client.get(f"{SESSIONS}/{secret}?token={secret}", headers={"X-API-KEY": secret})
    found = spans.take()
    assert [each.name for each in found] == ["GET", f"GET {SESSIONS}/{{sessionId}}"]
    assert secret not in "".join(each.to_json() for each in found)


async def test_the_span_of_a_stream_ends_when_it_starts(serve: Serve, spans: Spans) -> None:
    """The span of a stream has its session, and does not last as long as the stream."""
    client = await serve()
    session_id = (await create(client))["sessionId"]
    spans.clear()
    source = await follow(client, f"{EVENTS}?sessionId={session_id}")
    *_, request = spans.take()
    assert (request.name, attributes(request)["session.id"]) == (f"GET {EVENTS}", session_id)
    source.response.close()


@pytest.mark.parametrize(
    "settings_of_traces", [TracingSettings(is_on=True, with_conversation=True)]
)
async def test_conversations(serve: Serve, spans: Spans) -> None:
    """With SESSION_OTEL_CONVERSATION_ID, spans have gen_ai.conversation.id beside session.id."""
    client = await serve()
    session_id = (await create(client))["sessionId"]
    await client.get(f"{SESSIONS}/{session_id}")
    assert {
        (attributes(each)["session.id"], attributes(each)["gen_ai.conversation.id"])
        for each in spans.take()
    } == {(session_id, session_id)}


async def test_background_work_has_no_spans(tracing: Tracing, spans: Spans) -> None:
    """Calls of the store that belong to no request are not traced."""
    async with open_store(store_settings("memory://"), traced=tracing.of_store) as store:
        await store.deadlines.sweep()
        await store.executor.ping()
    assert spans.take() == []


async def test_lines_of_a_request_name_its_trace(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log line of a traced request has the id of its trace."""
    client = await serve(access_log=True)
    root = logging.getLogger()
    for name in ("handlers", "level"):
        monkeypatch.setattr(root, name, getattr(root, name))
    logs.set_up("info", "json")
    await client.get("/none", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["request refused", "request"]
    assert {line["trace_id"] for line in lines} == {TRACE}


async def test_an_event_from_a_socket(serve: Serve, spans: Spans) -> None:
    """Each event that a client emits is a trace of its own, with its calls of the store."""
    client = await serve()
    session_id = (await create(client))["sessionId"]
    caller = Socket()
    await caller.client.connect(f"http://127.0.0.1:{client.port}", transports=["websocket"])
    spans.clear()
    assert (await caller.client.call("join", {"channelId": session_id}))["success"]
    assert not (await caller.client.call("join", {"channelId": UNKNOWN}))["success"]
    found = spans.take()
    await caller.client.disconnect()
    joined, refused = [each for each in found if each.name == "socket.io join"]
    assert (joined.parent, attributes(joined)) == (None, {"session.id": session_id})
    assert attributes(refused) == {"session.id": UNKNOWN, "error.type": "SESSION_NOT_FOUND"}
    assert refused.status.status_code is StatusCode.UNSET
    children = [each for each in found if each.parent and ids(each)[0] == ids(joined)[0]]
    assert {attributes(each)["session.id"] for each in children} == {session_id}


async def test_a_delivery(tracing: Tracing, spans: Spans) -> None:
    """Each attempt is a trace of its own, which the endpoint continues."""
    now = time.time_ns() // 1_000_000
    event = Event(EventId(1_764_000_000_000, "3f", 0), "renewed", UNKNOWN, ID, ID)
    receiver = Receiver()
    await receiver.start()
    target = Target(f"{receiver.url}?{SECRET}", SECRET)
    webhook = Webhook(ID, target, 0, is_from_settings=False, is_enabled=True)
    async with tracing.webhook_client(WebhookPolicy(allowed_networks=EVERYWHERE)) as client:
        first = await client.post(webhook, Delivery(event, 0, b"", now))
        receiver.status = 503
        second = await client.post(webhook, Delivery(event, 2, b"", now))
        await receiver.stop()
        third = await client.post(webhook, Delivery(event, 3, b"", now))
    assert (first.failure, second.failure, third.failure) == ("", "HTTP_503", "CONNECTION")
    delivered, refused, unreachable = spans.take()
    trace, span, parent = ids(delivered)
    assert receiver.headers[0]["traceparent"].startswith(f"00-{trace}-{span:016x}-")
    assert parent is None
    assert len({ids(each)[0] for each in (delivered, refused, unreachable)}) == 3
    assert attributes(delivered) == {
        "http.request.method": "POST",
        "http.response.status_code": 204,
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": int(receiver.url.split(":")[2].partition("/")[0]),
        "cloudevents.event_id": event.id,
        "cloudevents.event_type": "session.renewed",
        "session_service.webhook.id": ID,
        "session.id": UNKNOWN,
    }
    errors = [attributes(each)["error.type"] for each in (refused, unreachable)]
    assert errors == ["503", "CONNECTION"]
    assert attributes(refused)["http.request.resend_count"] == 2
    assert SECRET not in "".join(each.to_json() for each in (delivered, refused, unreachable))


async def test_the_end_does_not_wait_for_a_silent_collector(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the collector does not answer, the service ends after a limited time, with a line."""
    monkeypatch.setattr(tracer, "TRACE_FLUSH_SECONDS", 0.1)

    collector = socket.create_server(("127.0.0.1", 0))
    port = collector.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    tracing = Tracing(TracingSettings(is_on=True))
    async with open_store(store_settings("memory://"), traced=tracing.of_store) as store:
        await tracing.of_event("join", acknowledge)("socket", UNKNOWN)
        await store.executor.ping()
    await asyncio.wait_for(tracing.close(), 5)
    assert [each.message for each in caplog.records if each.name == tracer.__name__] == [
        "traces: the collector does not answer; the last spans are lost"
    ]
    await wait_until(lambda: all(each.name != "traces" for each in threading.enumerate()))
    collector.close()


async def acknowledge(*_: object) -> dict[str, Any]:
    return {"success": True}
