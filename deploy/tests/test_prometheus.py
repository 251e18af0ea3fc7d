"""A real Prometheus scrapes two nodes with two workers each: sums, dashboard and alerts."""

import json
import math
import os
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from chaos.stores.server import free_port
from session_service.metrics.catalogue import CATALOGUE
from tests.support.api import SESSIONS
from tests.support.factories import new_uuid, session_body
from tests.support.processes import ROOT, ServiceProcess, Start
from tests.support.sockets import Socket
from tests.support.sse import EVENTS, follow
from tests.support.tools import need
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver
from tests.system.test_workers import workers_of

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/session-service.json"
SECOND = {"timeoutMinutes": 0.02, "warningThresholdMinutes": 0.01}  # 1.2 s, with a warning
REQUESTS = "http_server_request_duration_seconds"


class Node:
    """A service of two workers, and its port for metrics."""

    def __init__(self, service: ServiceProcess, metrics_port: int) -> None:
        self.service = service
        self.target = f"127.0.0.1:{metrics_port}"
        self.url = f"http://127.0.0.1:{service.port}"


class Prometheus:
    """A Prometheus with the repository's rules that scrapes nodes every half a second."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        configuration["rule_files"] = [
            str(PROMETHEUS / file) for file in configuration["rule_files"]
        ]
        (scrape,) = configuration["scrape_configs"]
        del scrape["dns_sd_configs"], scrape["relabel_configs"]
        scrape["static_configs"] = [{"targets": targets}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                cwd=folder,
                stderr=log,
            )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; fail if the expression is not valid."""
        async with (
            ClientSession(self._url) as client,
            client.get("/api/v1/query", params={"query": expression}) as response,
        ):
            answer = await response.json()
            assert answer["status"] == "success", answer
            result: list[dict[str, Any]] = answer["data"]["result"]
            return result

    async def number(self, expression: str) -> float:
        """Return the value of an expression with at most one series; NaN if there is none."""
        series = await self.query(expression)
        assert len(series) < 2
        return float(series[0]["value"][1]) if series else math.nan

    async def is_up(self) -> bool:
        try:
            async with ClientSession(self._url) as client, client.get("/-/ready") as response:
                is_ready = response.status == 200  # it answers queries 503 before
            return is_ready and await self.number("count(up == 1)") == 2
        except OSError:
            return False


@pytest.fixture
def nodes(start: Start, store_url: str) -> list[Node]:
    """Two nodes on one store."""
    need("prometheus")
    found = []
    for _ in range(2):
        port = free_port()
        service = start(
            REDIS_URL=store_url,
            WEB_CONCURRENCY="2",
            METRICS_PORT=str(port),
            SESSION_MIN_TIMEOUT_MINUTES="0.01",
            SESSION_MAX_PER_USER="1",
            SESSION_WEBHOOKS_ALLOW_PRIVATE="true",
        )
        found.append(Node(service, port))
    return found


@pytest.fixture
async def prometheus(nodes: list[Node], tmp_path: Path) -> AsyncIterator[Prometheus]:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    prometheus = Prometheus(folder, [node.target for node in nodes])
    try:
        await wait_until(prometheus.is_up, 30, every=0.1, description="both nodes are scraped")
        yield prometheus
    finally:
        prometheus.stop()


class Traffic:
    """Requests to all workers of both nodes, with the number of responses of each kind."""

    def __init__(self, nodes: list[Node], stack: AsyncExitStack) -> None:
        self.responses = Counter[tuple[str, str, int]]()  # by method, route and status
        self.transitions = Counter[str]()
        self.receiver = Receiver()
        self._nodes = nodes
        self._stack = stack
        self._sockets: list[Socket] = []

    async def register(self) -> None:
        """Register a webhook."""
        await self.receiver.start()
        self._stack.push_async_callback(self.receiver.stop)
        body = {"url": self.receiver.url, "secret": SECRET}
        await self.send(self._nodes[0], "POST", WEBHOOKS, WEBHOOKS, json=body)

    async def subscribe(self) -> None:
        """Open a stream and a socket at each node."""
        self._sockets = []
        for node in self._nodes:
            client = await self._stack.enter_async_context(ClientSession(node.url))
            await follow(client, EVENTS)
            socket = Socket()
            await socket.client.connect(node.url, transports=["websocket"], wait_timeout=20)
            self._stack.push_async_callback(socket.client.disconnect)
            self._sockets.append(socket)

    async def send(self, node: Node, method: str, route: str, path: str, **options: Any) -> Any:
        """Send a request on a connection of its own; count and return the response."""
        connector = TCPConnector(force_close=True)
        async with (
            ClientSession(node.url, connector=connector) as client,
            client.request(method, path, **options) as response,
        ):
            self.responses[method, route, response.status] += 1
            return await response.json()

    async def round(self) -> None:
        """Create, use, renew, end and expire sessions; make requests that are refused."""
        session, messages = f"{SESSIONS}/{{sessionId}}", f"{SESSIONS}/{{sessionId}}/messages"
        for node in self._nodes:
            for _ in range(10):
                created = await self.send(node, "POST", SESSIONS, SESSIONS, json=session_body())
                one = f"{SESSIONS}/{created['sessionId']}"
                for socket in self._sockets:
                    await socket.emit("join", {"roomId": created["sessionId"]})
                await self.send(
                    node, "POST", messages, f"{one}/messages", json={"content": "Good morning"}
                )
                await self.send(node, "POST", f"{session}/renew", f"{one}/renew")
                await self.send(node, "GET", session, one)
                await self.send(node, "DELETE", session, one)
                await self.send(node, "GET", session, one)
            brief = session_body(timeoutConfig=SECOND)
            await self.send(node, "POST", SESSIONS, SESSIONS, json=brief)
            again = {**brief, "agentId": new_uuid()}  # beyond SESSION_MAX_PER_USER
            await self.send(node, "POST", SESSIONS, SESSIONS, json=again)
            foreign = {"Origin": "https://elsewhere.example"}
            await self.send(node, "POST", SESSIONS, SESSIONS, json=session_body(), headers=foreign)
            self.transitions.update(created=11, renewed=10, ended=10, expiring=1, expired=1)


def sums(traffic: Traffic) -> dict[str, float]:
    """Return queries, and the values that they must have."""
    expected: dict[str, float] = {
        f'sum({REQUESTS}_count{{http_request_method="{method}", http_route="{route}",'
        f' http_response_status_code="{status}"}})': count
        for (method, route, status), count in traffic.responses.items()
    }
    for kind, count in traffic.transitions.items():
        expected[f'sum(session_service_transitions_total{{type="{kind}"}})'] = count
    due = traffic.transitions["expiring"] + traffic.transitions["expired"]
    expected["sum(session_service_sweep_lateness_seconds_count)"] = due
    return expected


async def check_sums(prometheus: Prometheus, traffic: Traffic) -> None:
    """Wait until each sum is right, and check that it still is after further scrapes."""

    async def differences() -> list[str]:
        return [
            f"{query} is {found}, not {value}"
            for query, value in sums(traffic).items()
            if (found := await prometheus.number(query)) != value
        ]

    async def are_right() -> bool:
        return not await differences()

    try:
        await wait_until(are_right, 20, every=0.2)
    except pytest.fail.Exception:
        pytest.fail("\n".join(await differences()))
    scrapes = await prometheus.number("sum(count_over_time(up[1h]))")
    await wait_until(lambda: more_scrapes(prometheus, scrapes + 6), 20, every=0.2)
    assert await differences() == []


async def more_scrapes(prometheus: Prometheus, count: float) -> bool:
    return await prometheus.number("sum(count_over_time(up[1h]))") >= count


def panel_queries() -> Iterator[tuple[str, str]]:
    """Yield the title and expression of each query of the dashboard, with its variables set."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$job", ".+").replace("$__rate_interval", "1m")
            assert "$" not in expression
            yield panel["title"], expression


def runbook_queries() -> Iterator[str]:
    """Yield the queries of the runbook pages, of which each has a line."""
    blocks = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for page in (ROOT / "docs/runbooks").glob("*.md"):
        for block in blocks.findall(page.read_text("utf-8")):
            yield from block.splitlines()


def alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


async def test_prometheus_sees_everything(nodes: list[Node], prometheus: Prometheus) -> None:
    """No count is lost or doubled when a worker dies; panels show data, queries are valid."""
    async with AsyncExitStack() as stack:
        traffic = Traffic(nodes, stack)
        await traffic.register()
        await traffic.subscribe()
        await traffic.round()
        await check_sums(prometheus, traffic)

        killed = min(workers_of(nodes[0].service))
        os.kill(killed, SIGKILL)
        await wait_until(lambda: len(workers_of(nodes[0].service) - {killed}) == 2)
        await check_sums(prometheus, traffic)
        await traffic.subscribe()  # again, as those of the dead worker are gone
        await traffic.round()
        await check_sums(prometheus, traffic)

        async def empty_panels() -> list[str]:
            empty = []
            for title, expression in panel_queries():
                series = await prometheus.query(expression)
                if all(math.isnan(float(each["value"][1])) for each in series):
                    empty.append(f"{title}: {expression}")
            return empty

        async def all_have_data() -> bool:
            return not await empty_panels()

        try:
            await wait_until(all_have_data, 20, every=0.5)
        except pytest.fail.Exception:
            pytest.fail("without data:\n" + "\n".join(await empty_panels()))
        for expression in (*alert_expressions(), *runbook_queries()):
            await prometheus.query(expression)


async def test_every_metric_is_exposed(nodes: list[Node]) -> None:
    """A running service exposes exactly the metrics of the catalogue, with their help."""
    async with ClientSession() as client:
        for node in nodes:
            async with client.get(f"http://{node.target}/metrics") as response:
                text = await response.text()
            families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
            assert {family.name for family in CATALOGUE} == families
