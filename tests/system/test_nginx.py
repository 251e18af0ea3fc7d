"""The service behind nginx: as a shared cache, under a path prefix, and with TLS."""

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector
from yarl import URL

from tests.support.api import SESSIONS
from tests.support.factories import ID
from tests.support.processes import Start
from tests.support.tools import need
from tests.support.waiting import wait_until

IDS = dict.fromkeys(("agentId", "userId"), ID)
PUBLIC = "app.example"
CONFIGURATION = """
{user}
daemon off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    proxy_cache_path cache keys_zone=shared:1m;
    server {{
        listen unix:{folder}/http;
        proxy_cache shared;
        proxy_cache_valid any 10m;
        location /chat/ {{
            proxy_pass http://127.0.0.1:{port}/;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@pytest.fixture
def proxy(tmp_path: Path, start: Start) -> Iterator[Path]:
    """The socket of an nginx that serves a service under /chat/, and caches what it may."""
    need("nginx")
    service = start(REDIS_URL="memory://", ALLOWED_HOSTS=PUBLIC)
    folder = tmp_path / "nginx"
    folder.mkdir()
    user = (
        "user root;" if os.geteuid() == 0 else ""
    )  # else its workers could not write to the test's folders
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=service.port, user=user))
    nginx = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(configuration)], stderr=subprocess.DEVNULL
    )
    try:
        yield folder / "http"
    finally:
        nginx.terminate()
        nginx.wait()


def listens(path: Path) -> bool:
    """Return whether a server accepts connections at a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


@pytest.fixture
async def public(proxy: Path) -> AsyncIterator[ClientSession]:
    """A client of the proxy, by its public name."""
    await wait_until(lambda: listens(proxy))
    async with ClientSession(f"http://{PUBLIC}", connector=UnixConnector(str(proxy))) as client:
        yield client


async def test_nothing_of_a_session_outlives_it_in_a_cache(public: ClientSession) -> None:
    """A shared cache never answers for the service."""
    async with public.post(f"/chat{SESSIONS}", json=IDS) as response:
        url = f"/chat{SESSIONS}/{(await response.json())['sessionId']}"
    for path in (url, f"{url}/messages"):
        for _ in range(2):
            async with public.get(path) as response:
                assert response.status == 200
    async with public.delete(url) as response:
        assert response.status == 200
    for path in (url, f"{url}/messages"):
        async with public.get(path) as response:
            assert response.status == 404


async def test_a_location_leads_through_the_prefix(public: ClientSession) -> None:
    """The Location leads to the new session."""
    async with public.post(f"/chat{SESSIONS}", json=IDS) as created:
        address = created.url.join(URL(created.headers["Location"]))
        session = await created.json()
    async with public.get(address.path) as response:
        assert (await response.json())["sessionId"] == session["sessionId"]


async def test_the_pages_of_the_proxy_are_its_own(public: ClientSession) -> None:
    """With TLS at a proxy that forwards Host, its own pages need no setting."""
    for origin, status in ((f"https://{PUBLIC}", 201), ("https://evil.example", 403)):
        headers = {"Origin": origin}
        async with public.post(f"/chat{SESSIONS}", json=IDS, headers=headers) as response:
            assert response.status == status
