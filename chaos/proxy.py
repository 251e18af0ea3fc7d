"""A TCP proxy that a fault can make delay, reset, close, hold or split the data it passes on."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MODES = ("pass", "delay", "reset", "half-close", "blackhole", "one byte")

_DELAY = 0.2  # seconds, each way
_PIECE = 65536


class Proxy:
    """A proxy to a port. ``mode`` applies to all connections, open and new.

    pass        data is passed on as it comes
    delay       data is passed on 200 ms later, in both directions
    reset       every connection is reset
    half-close  the connection to the client is closed for writing; its requests still arrive
    blackhole   data is held back, and passed on when the mode ends
    one byte    each byte is a write of its own

    Connections from an IP address that is ``cut`` are in mode blackhole, whatever the mode.
    """

    def __init__(self, target: int) -> None:
        self.target = target  # the port to which new connections go
        self._mode = "pass"
        self._cut: set[str] = set()
        self._passing: dict[str, asyncio.Event] = {}  # by the IP address of the client
        self._open: set[asyncio.StreamWriter] = set()  # both sides of all connections
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        self._update_passing()
        if mode == "reset":
            for writer in list(self._open):
                _reset(writer)
        if mode == "half-close":
            for writer in list(self._clients):
                with suppress(OSError):
                    writer.write_eof()

    def cut(self, address: str) -> None:
        """Hold back the data of connections from an IP address, in both directions."""
        self._cut.add(address)
        self._update_passing()

    def restore(self) -> None:
        """Pass on the data of all connections that were cut."""
        self._cut.clear()
        self._update_passing()

    def _update_passing(self) -> None:
        for address, passing in self._passing.items():
            is_held = self._mode == "blackhole" or address in self._cut
            (passing.clear if is_held else passing.set)()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on the data of one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self._clients.add(writer)
        other: asyncio.StreamWriter | None = None
        address = writer.get_extra_info("peername")[0]
        passing = self._passing.setdefault(address, asyncio.Event())
        self._update_passing()
        try:
            if self._mode == "reset":
                _reset(writer)
                return
            from_server, other = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(other)
            if self._mode == "half-close":
                writer.write_eof()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, other, passing))
                group.create_task(self._pass_on(from_server, writer, passing))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # one of the two sides has ended
        finally:
            self._tasks.discard(task)
            for side in (writer, other):
                if side is not None:
                    self._open.discard(side)
                    self._clients.discard(side)
                    side.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                at, data = await due.get()
                await asyncio.sleep(at - loop.time())
                await passing.wait()
                await self._write(writer, data)
                if not data:
                    raise ConnectionAbortedError

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                data = await reader.read(_PIECE)
                due.put_nowait((loop.time() + _DELAY * (self._mode == "delay"), data))
                if not data:
                    return

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if writer.transport.is_closing():
            return
        if self._mode == "one byte":
            for n in range(len(data)):
                writer.write(data[n : n + 1])
                if n % 64 == 0:
                    await writer.drain()
        elif self._mode == "half-close" and writer in self._clients:
            return  # closed for writing
        elif data:
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port for the block."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
