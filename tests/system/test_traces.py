"""Traces of two nodes, as a collector of OpenTelemetry receives them."""

import asyncio
from collections.abc import AsyncIterator
from signal import SIGTERM
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.api import SESSIONS, post
from tests.support.factories import session_body
from tests.support.processes import Start
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """A collector on 127.0.0.1 that takes OTLP over HTTP, and keeps the spans by service."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, str], Any]] = []
        self.types: set[str] = set()

    async def take(self, request: web.BaseRequest) -> web.Response:
        assert request.path == "/v1/traces"
        self.types.add(request.content_type)
        for group in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            process = {each.key: each.value.string_value for each in group.resource.attributes}
            self.spans += [(process, span) for scope in group.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    """A collector and its URL."""
    collector = Collector()
    runner = web.ServerRunner(web.Server(collector.take), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield collector, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_two_nodes_and_a_webhook(start: Start, collector: tuple[Collector, str]) -> None:
    """Requests of one trace to two nodes arrive as one trace; no span is lost at the stop."""
    spans, url = collector[0].spans, collector[1]
    receiver = Receiver()
    await receiver.start()
    with store_server(valkey_binary()) as store_url:
        settings = {
            "REDIS_URL": store_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "60000",  # so that the spans are left for the stop
            "SESSION_WEBHOOKS_ALLOW_PRIVATE": "true",
            "SESSION_OTEL_CONVERSATION_ID": "1",
            "ACCESS_LOG": "1",
        }
        nodes = [
            start(WEB_CONCURRENCY="2", **settings),
            start(OTEL_SERVICE_NAME="chat", **settings),
        ]
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        async with nodes[0].client() as here, nodes[1].client() as there:
            await post(here, WEBHOOKS, {"url": receiver.url, "secret": SECRET})
            async with here.post(SESSIONS, json=session_body(), headers=headers) as response:
                session_id = (await response.json())["sessionId"]
            async with there.delete(f"{SESSIONS}/{session_id}", headers=headers) as response:
                assert response.status == 200
            await wait_until(lambda: receiver.types(session_id) == ["created", "ended"])
        assert spans == []
        for node in nodes:
            node.signal(SIGTERM)
        assert [await asyncio.to_thread(node.wait) for node in nodes] == [0, 0]
    await receiver.stop()
    assert collector[0].types == {"application/x-protobuf"}
    of_trace = [(process, span) for process, span in spans if span.trace_id.hex() == TRACE]
    requests = [each for each in of_trace if each[1].parent_span_id.hex() == PARENT]
    assert {(process["service.name"], span.name) for process, span in requests} == {
        ("session-service", f"POST {SESSIONS}"),
        ("chat", f"DELETE {SESSIONS}/{{sessionId}}"),
    }
    calls = {span.parent_span_id: span.name for _, span in of_trace}
    assert {calls[span.span_id] for _, span in requests} == {"EVALSHA create", "EVALSHA end"}
    for _, span in requests:
        assert values(span)["gen_ai.conversation.id"] == values(span)["session.id"] == session_id
    deliveries = {
        f"{span.trace_id.hex()}-{span.span_id.hex()}": span
        for _, span in spans
        if span.name == "POST"
    }
    for each in receiver.headers:
        assert each["traceparent"][3:-3] in deliveries
    logged = [line for node in nodes for line in node.log if line.get("trace_id") == TRACE]
    assert {line["method"] for line in logged} == {"POST", "DELETE"}


def values(span: Any) -> dict[str, str]:
    """Return the attributes of a span that are text."""
    return {each.key: each.value.string_value for each in span.attributes}
