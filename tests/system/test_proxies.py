"""nginx in front of the service, with TLS, by the recipe of docs/proxies.md."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from chaos.stores.server import free_port
from tests.support.api import SESSIONS, assert_error, create
from tests.support.processes import ROOT, ServiceProcess, Start
from tests.support.tls import make_certificate
from tests.support.tools import need

NAME = "chat.example.org"
POLL = "/socket.io/?EIO=4&transport=polling"

Proxy = Callable[[ServiceProcess, str], str]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """Start nginx in front of a service, with the recipe less the lines to leave out."""
    need("nginx")
    with ExitStack() as stack:

        def start(service: ServiceProcess, without: str) -> str:
            certificate = make_certificate(tmp_path)
            port = free_port()
            text = (ROOT / "docs/proxies.md").read_text()
            recipe = text.partition("```nginx\n")[2].partition("```")[0]
            for documented, here in {
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "127.0.0.1:3000": f"127.0.0.1:{service.port}",
                "/etc/ssl/chat.pem": str(certificate.certificate),
                "/etc/ssl/chat.key": str(certificate.key),
            }.items():
                assert documented in recipe
                recipe = recipe.replace(documented, here)
            assert without in recipe
            recipe = recipe.replace(without, "")
            folders = "".join(
                f"{name}_temp_path {tmp_path}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            file = tmp_path / "nginx.conf"
            file.write_text(
                f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log;\n"
                f"events {{}}\nhttp {{\naccess_log off;\n{folders}{recipe}}}\n"
            )
            process = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(file)])
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            wait_for(tmp_path / "nginx.pid", process)
            return f"https://127.0.0.1:{port}"

        yield start


def wait_for(file: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until nginx listens, which is when it writes its process id."""
    give_up = time.monotonic() + 10
    while not (file.exists() and file.read_text()):
        assert process.poll() is None, file.with_name("nginx.log").read_text()
        assert time.monotonic() < give_up
        time.sleep(0.01)


def page_of(url: str, host: str = NAME) -> ClientSession:
    """Return a client that sends the headers of a page of the host's origin."""
    headers = {"Host": host, "Origin": f"https://{host}"}
    return ClientSession(url, headers=headers, connector=TCPConnector(ssl=False))


async def connected(client: ClientSession) -> str:
    """Open a WebSocket and connect; return the packet that confirms it."""
    async with client.ws_connect("/socket.io/?EIO=4&transport=websocket", ssl=False) as socket:
        await socket.receive_str()
        await socket.send_str("40")
        return await socket.receive_str()


async def test_the_recipe_works(start: Start, proxy: Proxy) -> None:
    """The service's own pages use REST, polls and WebSockets without X-Forwarded-Proto."""
    service = start(ALLOWED_HOSTS=NAME)
    async with page_of(proxy(service, "")) as client:
        session = await create(client)
        async with client.get(POLL) as response:
            opened = re.search('"sid":"([^"]+)"', await response.text())
            assert opened
        async with client.post(f"{POLL}&sid={opened[1]}", data="40") as response:
            assert response.status == 200
        assert (await connected(client)).startswith('40{"sid":')
        url = f"{SESSIONS}/{session['sessionId']}"
        async with client.get(f"{url}/events") as stream:  # arrives at once, unbuffered
            assert (await stream.content.readline()).startswith(b"retry:")
            async with client.delete(url) as response:
                assert response.status == 200
            assert b"session.ended" in await stream.content.read()


async def test_a_proxy_that_changes_host_is_told(start: Start, proxy: Proxy) -> None:
    """The response and one log line name the origin, the setting and the header."""
    service = start()
    forwarding = "proxy_set_header Host $http_host;"
    async with page_of(proxy(service, forwarding)) as client:
        for _ in range(2):
            async with client.get(POLL) as response:
                error: dict[str, Any] = await assert_error(response, 403, "FORBIDDEN")
            for named in (f"https://{NAME}", "SESSION_CORS_ORIGINS", "Host"):
                assert named in error["details"]
    (line,) = [line for line in service.log if line["event"].startswith("origin refused")]
    assert line["value"] == f"'https://{NAME}'"
    assert "SESSION_CORS_ORIGINS" in line["event"]
    assert "Host" in line["event"]
