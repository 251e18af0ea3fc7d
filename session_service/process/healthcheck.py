"""Asks the service on this machine whether it is ready, with as little as a probe should cost.

It runs every few seconds in a container: no HTTP library is imported, and no proxy is heeded.
"""

import socket
import sys
from collections.abc import Iterator, Sequence

from session_service.settings import Settings

_SECONDS = 4.0  # for all there is to do; the image's HEALTHCHECK has 5
_LOCAL = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104 - to be replaced
_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def run(settings: Settings) -> int:
    """Return 0 if the service is ready; else print the reason, and return 1."""
    if problem := _problem(settings.listen_on, settings.port):
        sys.stderr.write(f"not ready: {problem}\n")
        return 1
    return 0


def _problem(hosts: Sequence[str], port: int) -> str:
    """Return why the service that listens on these hosts is not ready, or "" if it is."""
    if port == 0:
        return "PORT is 0: the port that the service took is not known here"
    found = ""
    for host in _addresses(hosts):
        try:
            status = _ask(host, port)
        except OSError as error:
            found = found or f"{host} port {port}: {error.strerror or error}"
            continue
        return "" if status == 200 else f"{host} port {port} answers {status or 'no HTTP'}"
    return found


def _addresses(hosts: Sequence[str]) -> Iterator[str]:
    for host in hosts:
        yield from _LOCAL.get(host, (host,))


def _ask(host: str, port: int) -> int:
    """Return the HTTP status of the answer, or 0 if it is none."""
    with socket.create_connection((host, port), timeout=_SECONDS) as connection:
        connection.sendall(_REQUEST)
        answer = b""
        while b"\r\n" not in answer and (part := connection.recv(1024)):
            answer += part
    parts = answer.split(b" ", 2)
    is_http = parts[0].startswith(b"HTTP/1.") and len(parts) > 1 and parts[1].isdigit()
    return int(parts[1]) if is_http else 0
