"""``session-service healthcheck``: asks the service on this machine whether it is ready.

It runs every 10 s in a container, so it imports no HTTP library. It uses no proxy.
"""

import socket
import sys
from collections.abc import Iterator, Sequence

from session_service.output import print_json
from session_service.settings import Settings

_SECONDS = 4.0  # for connecting and for the reply, each; the image's HEALTHCHECK has 5
_ALL_IPV4 = socket.inet_ntoa(bytes(4))  # 0.0.0.0
# The addresses to ask instead of those that stand for all addresses.
_LOCAL = {_ALL_IPV4: ("127.0.0.1",), "::": ("::1", "127.0.0.1")}
_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def run(settings: Settings, *, as_json: bool = False) -> int:
    """Return 0 if the service is ready; else print the reason, and return 1."""
    problem = _problem(settings.listen_on, settings.port)
    if as_json:
        print_json({"ready": not problem, "problem": problem or None})
    elif problem:
        sys.stderr.write(f"not ready: {problem}\n")
    return 1 if problem else 0


def _problem(hosts: Sequence[str], port: int) -> str:
    """Return the reason why the service on these hosts is not ready, or "" if it is.

    E.g. ``127.0.0.1 port 3000: Connection refused``.
    """
    if port == 0:
        return "PORT is 0: the port that the service chose is unknown"
    problem = ""
    for host in _addresses(hosts):
        try:
            status = _status(host, port)
        except OSError as error:
            problem = problem or f"{host} port {port}: {error.strerror or error}"
            continue
        return "" if status == 200 else f"{host} port {port} answers {status or 'no HTTP'}"
    return problem


def _addresses(hosts: Sequence[str]) -> Iterator[str]:
    for host in hosts:
        yield from _LOCAL.get(host, (host,))


def _status(host: str, port: int) -> int:
    """Return the HTTP status of the reply, or 0 if it is not HTTP."""
    with socket.create_connection((host, port), timeout=_SECONDS) as connection:
        connection.sendall(_REQUEST)
        reply = b""
        while b"\r\n" not in reply and (received := connection.recv(1024)):
            reply += received
    parts = reply.split(b" ", 2)
    is_http = parts[0].startswith(b"HTTP/1.") and len(parts) > 1 and parts[1].isdigit()
    return int(parts[1]) if is_http else 0
