"""The service as a process: its start, its end, and its output."""

import asyncio
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGINT, SIGSTOP, SIGTERM, Signals
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from redis import Redis

from session_service import __version__
from tests.support.api import SESSIONS, assert_error
from tests.support.factories import new_uuid, session_body
from tests.support.processes import ServiceProcess, Start, is_closed, run
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until


async def is_ready(client: ClientSession) -> bool:
    async with client.get("/readyz") as response:
        return response.status == 200


async def assert_store_unavailable(client: ClientSession) -> None:
    """Check that requests get a 503 with Retry-After, and so does the probe."""
    async with client.post(SESSIONS, json=session_body()) as response:
        await assert_error(response, 503, "STORE_UNAVAILABLE")
        assert int(response.headers["Retry-After"]) > 0
    assert not await is_ready(client)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Suspend a process for the block."""
    os.kill(pid, SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, SIGCONT)


async def test_one_line_tells_of_the_start(start: Start, store_url: str) -> None:
    """The start line has the version, the address and the store; then the service answers."""
    service = start(REDIS_URL=store_url)
    assert re.fullmatch(
        rf"session-service {re.escape(__version__)} listens on http://127\.0\.0\.1:\d+;"
        rf" store: {store_url}; as durable as that server is",
        service.start_line,
    )
    async with service.client() as client:
        for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
            async with client.get(path) as response:
                assert (response.status, await response.json()) == (200, {"status": status})
    assert service.stdout.count("\n") == 1


def test_the_start_line_keeps_a_password_to_itself(start: Start) -> None:
    """Neither the start line nor the log shows the store's password."""
    service = start(REDIS_URL="redis://user:hunter2@127.0.0.1:1/0")
    assert "store: redis://127.0.0.1:1/0;" in service.start_line
    assert "hunter2" not in service.stdout + service.stderr


def test_a_store_in_memory_is_warned_of(start: Start) -> None:
    """A store in memory is warned of, as nothing is durable."""
    service = start(REDIS_URL="memory://")
    assert "store: memory; NOT durable" in service.start_line
    assert [line["event"] for line in service.log if line["level"] == "warning"] == [
        "REDIS_URL=memory:// keeps sessions in this process alone"
    ]


@pytest.mark.parametrize("signum", [SIGTERM, SIGINT, SIGHUP])
def test_a_signal_stops_it(start: Start, store_url: str, signum: Signals) -> None:
    """Each way to stop it ends with exit code 0 and no error in the log."""
    service = start(REDIS_URL=store_url)
    assert service.port
    service.signal(signum)
    assert service.wait() == 0
    assert {line["level"] for line in service.log} <= {"info", "warning"}


class SlowRequest:
    """A request to create a session, whose body is sent when the test decides."""

    BODY = b'{"agentId": "%s", "userId": "%s"}' % ((new_uuid().encode(),) * 2)

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def begin(cls, port: int) -> "SlowRequest":
        """Send the headers, and wait for 100 Continue."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % (SESSIONS.encode(), len(cls.BODY))
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        return cls(reader, writer)

    async def finish(self) -> bytes:
        """Send the body; return the whole response."""
        self._writer.write(self.BODY)
        return await self.read_response()

    async def read_response(self) -> bytes:
        """Wait until the connection is closed; return everything received."""
        response = await self._reader.read()
        self._writer.close()
        await self._writer.wait_closed()
        return response


@pytest.mark.parametrize("signum", [SIGTERM, SIGINT, SIGHUP])
async def test_what_is_in_flight_is_finished(start: Start, store_url: str, signum: Signals) -> None:
    """A request from before the signal is answered, and later connections are refused."""
    service = start(REDIS_URL=store_url)
    request = await SlowRequest.begin(service.port)
    service.signal(signum)
    await wait_until(lambda: is_closed(service.port))
    response = await request.finish()
    assert response.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"\r\nConnection: close\r\n" in response
    assert service.wait() == 0


async def test_a_service_that_is_stopping_is_not_ready(start: Start, store_url: str) -> None:
    """Open connections see readiness fail while requests in flight are finished."""
    service = start(REDIS_URL=store_url)
    async with service.client() as client:
        assert await is_ready(client)  # opens a connection
        request = await SlowRequest.begin(service.port)
        service.signal(SIGTERM)
        await wait_until(lambda: is_closed(service.port))
        async with client.get("/readyz") as response:
            await assert_error(response, 503, "NOT_READY")
        assert b"201 Created" in await request.finish()
    assert service.wait() == 0


async def test_a_stop_waits_no_longer_than_it_is_told(start: Start, store_url: str) -> None:
    """A request that does not end is cut after SESSION_DRAIN_SECONDS."""
    service = start(REDIS_URL=store_url, SESSION_DRAIN_SECONDS="0.2")
    request = await SlowRequest.begin(service.port)
    service.signal(SIGTERM)
    async with asyncio.timeout(8):  # without a stop the service waits longer for a body
        assert b"201" not in await request.read_response()
    assert service.wait() == 0


async def test_a_stop_under_load_loses_no_request(start: Start, store_url: str) -> None:
    """Busy clients get every response, the last one with Connection: close."""
    service = start(REDIS_URL=store_url)
    asked = answered = 0

    async def ask() -> None:
        nonlocal asked, answered
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        response = b""
        while b"\r\nConnection: close\r\n" not in response:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            asked += 1
            response = await reader.readuntil(b"\r\n\r\n")
            answered += 1
            await reader.readexactly(len(b'{"status":"ok"}'))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    clients = [asyncio.ensure_future(ask()) for _ in range(32)]
    await wait_until(lambda: answered > 1000)
    service.signal(SIGTERM)
    await asyncio.gather(*clients)
    assert asked == answered
    assert service.wait() == 0


@pytest.mark.proof  # one that is made between the last accept and the close can be reset
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_connection_is_served_or_refused(
    start: Start, store_url: str, workers: str
) -> None:
    """While it stops, a new connection gets its response or is refused; none is reset, or waits."""
    service = start(REDIS_URL=store_url, WEB_CONCURRENCY=workers)
    port = service.port
    answered = 0

    async def ask() -> None:
        """Open a connection for each request, as proxies do after ``Connection: close``."""
        nonlocal answered
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(5):
                assert (await reader.read()).endswith(b'{"status":"ok"}')
            answered += 1
            writer.close()
            await writer.wait_closed()

    clients = [asyncio.ensure_future(ask()) for _ in range(64)]
    await wait_until(lambda: answered > 500)
    service.signal(SIGTERM)
    await asyncio.gather(*clients)
    assert service.wait() == 0


async def test_past_its_bound_a_service_refuses_at_once(start: Start, store_url: str) -> None:
    """Requests beyond the limit get a 503 with Retry-After; probes are answered."""
    service = start(REDIS_URL=store_url, SESSION_MAX_IN_FLIGHT="1")
    with Redis.from_url(store_url) as store:
        pid = store.info("server")["process_id"]

    async with service.client() as client:
        await wait_until(lambda: is_ready(client))

        async def create() -> tuple[int, str | None, str]:
            async with client.post(SESSIONS, json=session_body()) as response:
                body = await response.json()
                code = body["error"]["code"] if "error" in body else ""
                return response.status, response.headers.get("Retry-After"), code

        with stopped(pid):  # one request waits for the store, and another is refused
            creating = [asyncio.create_task(create()) for _ in range(2)]
            done, _ = await asyncio.wait(creating, return_when=asyncio.FIRST_COMPLETED)
            async with client.get("/healthz") as response:
                assert response.status == 200
        assert [task.result() for task in done] == [(503, "1", "OVERLOADED")]
        statuses = sorted([(await task)[0] for task in creating])
        assert statuses == [201, 503]
        assert (await create())[0] == 201


def test_bad_settings_are_told_one_a_line(tmp_path: Path) -> None:
    """Exit code 2, and one line for every problem."""
    done = run(tmp_path, "serve", PORT="70000", REDIS_URL="mysql://x", LOG_LEVEL="loud")
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert [line.partition("=")[0] for line in lines] == ["PORT", "REDIS_URL", "LOG_LEVEL"]
    assert all(" is not allowed: it must be " in line for line in lines)
    assert done.stdout == ""


def test_a_store_that_cannot_keep_the_promise_stops_the_start(
    tmp_path: Path, store_url: str
) -> None:
    """If writes are to be on disk, a store without an append-only file stops the start."""
    with Redis.from_url(store_url) as store:
        done = run(tmp_path, "serve", REDIS_URL=store_url, WRITE_ACK="fsync")
        assert done.returncode == 1
        assert "WRITE_ACK=fsync needs a store" in done.stderr
        assert done.stdout == ""
        store.config_set("appendonly", "yes")
        with ServiceProcess(tmp_path / "kept", REDIS_URL=store_url, WRITE_ACK="fsync") as service:
            assert service.port


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path, store_url: str) -> None:
    """Exit code 1, and a line that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "serve", PORT=str(port), REDIS_URL=store_url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_store_that_comes_late_is_waited_for(start: Start) -> None:
    """The service starts without its store, answers 503 until it comes, and then 201."""
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:  # socket paths have to be short
        path = Path(folder) / "s"
        service = start(REDIS_URL=f"unix://{path}")
        async with service.client() as client:
            await assert_store_unavailable(client)
            with store_server(valkey_binary()) as url:
                path.symlink_to(url.removeprefix("unix://"))
                await wait_until(lambda: is_ready(client))
                async with client.post(SESSIONS, json=session_body()) as response:
                    assert response.status == 201
            await assert_store_unavailable(client)


async def test_a_store_that_hangs_is_not_waited_for(start: Start, store_url: str) -> None:
    """A hanging store is a 503 within the store timeout, until it runs again."""
    service = start(REDIS_URL=store_url, SESSION_STORE_TIMEOUT_SECONDS="0.5")
    async with service.client() as client:
        await wait_until(lambda: is_ready(client))
        with Redis.from_url(store_url) as store:
            pid = store.info("server")["process_id"]
        with stopped(pid):
            async with asyncio.timeout(10):
                await assert_store_unavailable(client)
        await wait_until(lambda: is_ready(client))
        async with client.post(SESSIONS, json=session_body()) as response:
            assert response.status == 201


async def test_an_error_is_found_in_the_log_by_its_request_id(
    tmp_path: Path, store_url: str
) -> None:
    """A defect is logged once, as JSON with the request id and the traceback."""
    program = ("tests.support.defective_service",)
    with ServiceProcess(tmp_path / "defective", program=program, REDIS_URL=store_url) as service:
        async with service.client() as client, client.get(f"{SESSIONS}/{uuid4()}") as response:
            await assert_error(response, 500, "INTERNAL_ERROR")
            request_id = response.headers["X-Request-ID"]
    (line,) = [line for line in service.log if line.get("request_id") == request_id]
    assert (line["level"], line["event"]) == ("error", "defect")
    assert "LookupError" in line["exception"]


async def test_a_request_keeps_its_id_in_the_log(start: Start) -> None:
    """An error is logged with the caller's request id."""
    service = start(REDIS_URL="redis://127.0.0.1:1/0")
    async with service.client() as client:
        headers = {"X-Request-ID": "of-the-caller"}
        async with client.get(f"{SESSIONS}/{uuid4()}", headers=headers) as response:
            assert response.headers["X-Request-ID"] == "of-the-caller"
    lines = [line for line in service.log if line.get("request_id") == "of-the-caller"]
    assert [(line["level"], line["event"]) for line in lines] == [("warning", "store unavailable")]
