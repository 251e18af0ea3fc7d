"""Clients that cost the service as much as they can. Each runs in a process of its own.

    python -m chaos.flooders KIND PORT SECONDS PATH

It connects to 127.0.0.1, ends after the seconds, and prints its counts as one line of JSON, such as
``{"opened": 2500, "not opened": 3}``.
"""

import asyncio
import gzip
import json
import os
import resource
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache

from tests.support.api import SESSIONS

READERS = 40
BODIES = 2500
HANDSHAKES = 10_000
BOMBS = 50
CONNECTIONS = 2000  # more than the table has

_HEAD = "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_POST = _HEAD.format("POST", SESSIONS) + "Content-Type: application/json\r\n"
_HALF = f'{_POST}Content-Length: 100000\r\n\r\n{{"agentId": '.encode()
_OPENED_PER_SECOND = 500  # connections, so that a flood costs the machine a bounded amount

Flooder = Callable[[int, str, Counter[str]], Awaitable[None]]


class _Silent(asyncio.Protocol):
    """A connection that sends some data and then nothing more."""

    def __init__(self, data: bytes, lost: asyncio.Queue[None]) -> None:
        self._data = data
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport) and self._data:
            transport.write(self._data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._lost.put_nowait(None)


async def _hold(port: int, count: int, data: bytes, done: Counter[str]) -> None:
    """Hold connections that each sent the data, and replace each one that is closed."""
    loop = asyncio.get_running_loop()
    lost: asyncio.Queue[None] = asyncio.Queue()
    for _ in range(count):
        lost.put_nowait(None)
    while True:
        for _ in range(_OPENED_PER_SECOND // 50):
            await lost.get()
            try:
                await loop.create_connection(lambda: _Silent(data, lost), "127.0.0.1", port)
                done["opened"] += 1
            except OSError:
                done["not opened"] += 1
                lost.put_nowait(None)
        await asyncio.sleep(0.02)


async def half_bodies(port: int, _: str, done: Counter[str]) -> None:
    """Send half of each body."""
    await _hold(port, BODIES, _HALF, done)


async def idle(port: int, _: str, done: Counter[str]) -> None:
    """Connect and send nothing."""
    await _hold(port, CONNECTIONS, b"", done)


async def half_heads(port: int, _: str, done: Counter[str]) -> None:
    """Connect and send half of a head."""
    await _hold(port, CONNECTIONS, _HEAD.format("GET", "/healthz").encode(), done)


async def streams(port: int, path: str, done: Counter[str]) -> None:
    """Follow the events of a quiet session on every connection that the service accepts."""
    events = path.partition("/messages")[0] + "/events"
    await _hold(port, CONNECTIONS, f"{_HEAD.format('GET', events)}\r\n".encode(), done)


async def unread(port: int, path: str, done: Counter[str]) -> None:
    """Request a page and never read it; reconnect when the connection is closed."""
    request = f"{_HEAD.format('GET', path)}\r\n".encode()
    readers = [await _reader(port, request) for _ in range(READERS)]
    done["requested"] += READERS
    while True:
        await asyncio.sleep(0.2)
        for n, each in enumerate(readers):
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                each.close()
                readers[n] = await _reader(port, request)
                done["cut, and requested again"] += 1


async def _reader(port: int, request: bytes) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, request)
    return connection


async def handshakes(port: int, _path: str, done: Counter[str]) -> None:
    """Open one polling session after the other on one connection, and use none of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = "/socket.io/?EIO=4&transport=polling"
    request = f"{_HEAD.format('GET', path)}\r\n".encode()
    for _ in range(HANDSHAKES // 20):
        writer.write(request * 20)
        for _ in range(20):
            done[await _status(reader)] += 1
    await asyncio.Event().wait()


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * (200 << 20), 9)  # 204 KB


async def bombs(port: int, _: str, done: Counter[str]) -> None:
    """Send bodies that are small until decompressed, each on a connection of its own."""
    body = _bomb()
    head = f"{_POST}Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def bomb() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            writer.write(head + body)
            done[await _status(reader)] += 1
        writer.transport.abort()

    while True:
        await asyncio.gather(*(bomb() for _ in range(BOMBS)), return_exceptions=True)
        await asyncio.sleep(1)


async def _status(reader: asyncio.StreamReader) -> str:
    """Read a response that has a Content-Length; return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head[9:12].decode()


KINDS: dict[str, Flooder] = {
    "unread": unread,
    "half-bodies": half_bodies,
    "handshakes": handshakes,
    "bombs": bombs,
    "idle": idle,
    "half-heads": half_heads,
    "streams": streams,
}


async def _flood(kind: str, port: int, seconds: float, path: str) -> None:
    done: Counter[str] = Counter()
    if kind == "bombs":
        _bomb()  # takes a second of CPU, which is not part of the flood
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await KINDS[kind](port, path, done)
    sys.stdout.write(json.dumps(done) + "\n")
    sys.stdout.flush()
    os._exit(0)  # thousands of connections need not be closed one by one


if __name__ == "__main__":
    os.nice(10)  # its own CPU time is not to slow the service down
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_flood(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
