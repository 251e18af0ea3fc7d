"""The listening sockets of the service, and the limit of open files."""

import asyncio
import errno
import ipaddress
import logging
import resource
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from session_service.process.listen_fds import ListenFds

# Connections that the kernel keeps until they are accepted; with aiohttp's 128, it refuses bursts.
BACKLOG = 1024

_ALL = "::"
_ALL_IPV4 = str(ipaddress.IPv4Address(socket.INADDR_ANY))  # 0.0.0.0
_PORT_ATTEMPTS = 10  # to find a port that is free on all addresses
_OTHER_FILES = 256  # file descriptors for other purposes than connections
_MIN_FILES = 64  # with fewer, even opening the store and the log may fail

# Errors of listening on ::1 on a machine without IPv6.
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)

_Address = tuple[Any, ...]  # ("127.0.0.1", 3000), or ("::1", 3000, flow information, scope)

log = logging.getLogger(__name__)


class Sockets(NamedTuple):
    """The listening sockets of the service."""

    api: Sequence[socket.socket]
    metrics: Sequence[socket.socket]  # of METRICS_PORT

    @classmethod
    def of(cls, fds: ListenFds) -> "Sockets":
        """Return the sockets that a worker inherits."""
        return cls(*([socket.socket(fileno=fd) for fd in each] for each in fds))

    def fds(self) -> ListenFds:
        """Return the file descriptors of the sockets."""
        return ListenFds(*([each.fileno() for each in sockets] for sockets in self))


class ListenError(Exception):
    """The service cannot listen; the message, one line, is for the operator."""


async def listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Listen on each address of each host; with port 0, on one port that is free on all of them.

    ``::`` accepts IPv4 connections as well. ``::1`` is left out if the machine has no IPv6 and
    there is another address. Raises ListenError.
    """
    addresses = await _resolve(hosts, port)
    for attempt in range(_PORT_ATTEMPTS):
        with ExitStack() as stack:
            try:
                sockets = _bind(addresses, port, stack)
            except OSError as error:
                is_in_use = error.errno == errno.EADDRINUSE
                if port == 0 and is_in_use and attempt < _PORT_ATTEMPTS - 1:
                    continue  # the port is free on the first address, and in use on another
                raise _error(hosts, port, error) from error
            stack.pop_all()
            return sockets
    raise AssertionError


async def _resolve(hosts: Sequence[str], port: int) -> list[_Address]:
    """Return the socket addresses of the hosts, without those that ``::`` or 0.0.0.0 include."""
    loop = asyncio.get_running_loop()
    found: dict[str, _Address] = {}
    for host in hosts:
        try:
            for *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found[str(address[0])] = address
        except OSError as error:
            raise _error([host], port, error) from error
    if _ALL in found:
        return [found[_ALL]]
    return [
        address
        for host, address in found.items()
        if ":" in host or host == _ALL_IPV4 or _ALL_IPV4 not in found
    ]


def _bind(addresses: Sequence[_Address], port: int, stack: ExitStack) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for host, _, *scope in sorted(addresses, key=lambda address: address[0] == "::1"):
        try:
            listener = socket.create_server(
                (host, port, *scope),
                family=socket.AF_INET6 if ":" in host else socket.AF_INET,
                backlog=BACKLOG,
                dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            if sockets and host == "::1" and error.errno in _NO_IPV6:
                continue
            raise
        stack.callback(listener.close)
        sockets.append(listener)
        port = listener.getsockname()[1]  # if it was 0: the same port on all addresses
    return sockets


def _error(hosts: Sequence[str], port: int, error: OSError) -> ListenError:
    # The socket module appends the address: "Address already in use (while attempting to bind …)".
    reason = str(error.strerror).partition(" (")[0]
    addresses = ", ".join(_with_port(host, port) for host in hosts)
    return ListenError(f"cannot listen on {addresses}: {reason}")


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def accept_pending(listener: socket.socket) -> list[socket.socket]:
    """Accept the connections that a socket has: the system resets them when it is closed."""
    accepted: list[socket.socket] = []
    listener.setblocking(False)
    with suppress(OSError):  # BlockingIOError: there are no more
        while True:
            accepted.append(listener.accept()[0])
    for connection in accepted:
        connection.setblocking(False)
    return accepted


def addresses_of(sockets: Sequence[socket.socket]) -> list[str]:
    """Return each address with its port, e.g. ``127.0.0.1:3000`` and ``[::1]:3000``."""
    return [_with_port(*each.getsockname()[:2]) for each in sockets]


def beyond_loopback(sockets: Sequence[socket.socket]) -> list[str]:
    """Return the addresses that other machines may reach, e.g. ``0.0.0.0:3000``."""
    names: list[Any] = [each.getsockname() for each in sockets]
    return [_with_port(*name[:2]) for name in names if not is_loopback(name[0])]


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address, e.g. ``::1`` or ``fe80::1%eth0``."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def allow_files(connections: int) -> int:
    """Raise the limit of open files for a number of connections; return how many it allows.

    Raises ListenError if the system's limit is below 64 files.
    """
    soft, needed = _reachable_limit(connections), connections + _OTHER_FILES
    if soft is None:
        return connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < _MIN_FILES:
        raise ListenError(
            f"the limit of open files is {soft}: it must be at least {_MIN_FILES}, and"
            f" {needed} for {connections} connections (ulimit -n)"
        )
    allowed = _allowed(connections, soft)
    if allowed < connections:
        log.warning(
            "the limit of open files (ulimit -n) allows fewer connections than"
            " SESSION_MAX_CONNECTIONS",
            extra={"limit": soft, "needed": needed, "connections": allowed},
        )
    return allowed


def allowed_connections(connections: int) -> int:
    """Return how many connections the limit of open files of this process allows."""
    limit = _reachable_limit(connections)
    return connections if limit is None else _allowed(connections, limit)


def _reachable_limit(connections: int) -> int | None:
    """Return the limit of open files, raised as far as needed and allowed; None for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    needed = connections + _OTHER_FILES
    return max(soft, needed if hard == resource.RLIM_INFINITY else min(needed, hard))


def _allowed(connections: int, limit: int) -> int:
    return min(connections, limit - min(_OTHER_FILES, limit // 2))
