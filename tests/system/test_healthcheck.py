"""``session-service healthcheck``: correct for any HOST, and cheap."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import Start, environment, run
from tests.support.tools import skip_without


def need_ipv6() -> None:
    """Skip the test if this machine has no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        skip_without("IPv6")


def test_it_tells_whether_the_service_is_ready(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    """It exits with 0 if the service is ready, else with 1 and one line."""
    ready, without_store = start(REDIS_URL=store_url), start(REDIS_URL="redis://127.0.0.1:1/0")
    ports = [ready.port, without_store.port]
    with socket.create_server(("127.0.0.1", 0)) as free:
        ports.append(free.getsockname()[1])
    done = [run(tmp_path, "healthcheck", PORT=str(port)) for port in ports]
    assert [d.returncode for d in done] == [0, 1, 1]
    assert [d.stderr for d in done] == [
        "",
        f"not ready: 127.0.0.1 port {ports[1]} answers 503\n",
        f"not ready: 127.0.0.1 port {ports[2]}: Connection refused\n",
    ]


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "::1", "localhost", "127.0.0.2,127.0.0.1"],  # noqa: S104 - tested here
)
def test_it_asks_where_the_service_listens(
    start: Start, store_url: str, tmp_path: Path, host: str
) -> None:
    """It connects to the service's HOST, and uses no proxy."""
    if ":" in host:
        need_ipv6()
    service = start(REDIS_URL=store_url, HOST=host)
    proxies = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    done = run(tmp_path, "healthcheck", PORT=str(service.port), HOST=host, **proxies)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_http_is_not_ready(tmp_path: Path) -> None:
    """Another program on the port is not ready."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "session_service", "healthcheck"]
        with subprocess.Popen(
            command, env=environment(tmp_path, PORT=str(port)), stderr=subprocess.PIPE, text=True
        ) as asking:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 mail.example ESMTP\r\n")
            assert asking.stderr is not None
            assert asking.stderr.read() == f"not ready: 127.0.0.1 port {port} answers no HTTP\n"
    assert asking.returncode == 1


def test_it_imports_nothing_heavy(tmp_path: Path) -> None:
    """It imports none of the server's modules, as it runs every few seconds."""
    code = (
        "import sys; from session_service.cli import main; main(['healthcheck'])\n"
        "print(*sorted({'aiohttp', 'asyncio', 'http', 'redis', 'structlog', 'urllib.request'}"
        " & set(sys.modules)), len(sys.modules) < 300)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, PORT="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
