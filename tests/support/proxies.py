"""nginx and haproxy in front of services, with TLS, by the configurations in docs/proxies.md."""

import asyncio
import os
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import AddrInfoType, ClientSession, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from chaos.stores.server import free_port
from tests.support.processes import ROOT
from tests.support.tls import NAME, Certificate
from tests.support.tools import need
from tests.support.waiting import wait_until

PROXIES = ("nginx", "haproxy")
_MARK = "# adapt"
_START_SECONDS = 10.0


def documented(language: str, here: Mapping[str, str], without: str = "") -> str:
    """Return the configuration in docs/proxies.md, less the text ``without``, adapted to a test.

    ``here`` has a replacement for each text that a reader adapts. Only lines with the mark
    ``# adapt`` are changed, and each replacement has to change one of them.
    """
    text = (ROOT / "docs/proxies.md").read_text()
    lines = text.partition(f"```{language}\n")[2].partition("```")[0].splitlines(keepends=True)
    for old, new in here.items():
        marked = [n for n, line in enumerate(lines) if old in line and _MARK in line]
        assert marked, f"no line marked with {_MARK!r} has {old!r}"
        for n in marked:
            lines[n] = lines[n].replace(old, new)
    recipe = "".join(lines)
    assert without in recipe
    return recipe.replace(without, "")


class Proxy:
    """A running proxy with TLS, for clients that verify its certificate and know its name."""

    def __init__(self, port: int, certificate: Certificate) -> None:
        self.port = port
        self.url = f"https://{NAME}:{port}"
        self.certificate = certificate

    @asynccontextmanager
    async def client(
        self, address: str = "127.0.0.1", **headers: str
    ) -> AsyncIterator[ClientSession]:
        """Yield a client from an address of this machine, by default as a page of the proxy.

        Connections with TLS end a moment after the client: it waits for that.
        """
        made: list[socket.socket] = []

        def connection(info: AddrInfoType) -> socket.socket:
            made.append(socket.socket(*info[:3]))
            return made[-1]

        connector = TCPConnector(
            ssl=ssl.create_default_context(cafile=self.certificate.certificate),
            resolver=_Loopback(),
            local_addr=(address, 0),
            socket_factory=connection,
        )
        fields = {"Origin": self.url, **headers}
        async with ClientSession(self.url, headers=fields, connector=connector) as client:
            yield client
        await wait_until(lambda: all(each.fileno() == -1 for each in made))


@contextmanager
def proxy(
    kind: str, folder: Path, certificate: Certificate, *ports: int, without: str = ""
) -> Iterator[Proxy]:
    """Run nginx or haproxy in front of the services on these ports, on a free port."""
    need(kind)
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    write = _nginx if kind == "nginx" else _haproxy
    command = write(folder, certificate, port, ports, without)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for(port, process, log)
        yield Proxy(port, certificate)
    finally:
        process.terminate()
        process.wait(10)


def _nginx(
    folder: Path, certificate: Certificate, port: int, services: tuple[int, ...], without: str
) -> list[str]:
    here = {
        "listen 443": f"listen 127.0.0.1:{port}",
        "server 127.0.0.1:3000 fail_timeout=2s;": " ".join(
            f"server 127.0.0.1:{each} fail_timeout=2s;" for each in services
        ),
        "/etc/ssl/chat.pem": str(certificate.certificate),
        "/etc/ssl/chat.key": str(certificate.key),
    }
    folders = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Else the workers of a root's nginx could not write to the folder of the test.
    user = "user root;" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{documented('nginx', here, without)}}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(file)]


def _haproxy(
    folder: Path, certificate: Certificate, port: int, services: tuple[int, ...], without: str
) -> list[str]:
    both = folder / "both.pem"  # haproxy reads the key from the file of the certificate
    both.write_text(certificate.certificate.read_text() + certificate.key.read_text())
    both.chmod(0o600)
    servers = "\n    ".join(
        f"server node{n} 127.0.0.1:{each} cookie node{n} # adapt"
        for n, each in enumerate(services, 1)
    )
    here = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/haproxy/chat.pem": str(both),
        "server node1 127.0.0.1:3000 cookie node1": servers,
    }
    file = folder / "haproxy.cfg"
    file.write_text(f"global\n    maxconn 1000\n{documented('haproxy', here, without)}")
    return ["haproxy", "-db", "-f", str(file)]


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the proxy accepts connections."""
    give_up = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.01)


class _Loopback(AbstractResolver):
    """Resolves every name to 127.0.0.1."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await asyncio.sleep(0)
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass
