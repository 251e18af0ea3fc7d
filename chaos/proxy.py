"""A TCP proxy whose connections can be made to suffer while they run."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MODES = ("pass", "delay", "reset", "half-close", "blackhole", "one byte")

_DELAY = 0.2  # seconds, each way
_PIECE = 65536


class Proxy:
    """A proxy to a port; ``mode`` holds for all connections, those that are there too.

    pass        bytes go on as they come
    delay       they go on 200 ms later, in both directions
    reset       every connection is reset, and so is every new one
    half-close  the client is told that nothing more will come, while what it sends still arrives
    blackhole   bytes are kept back, of new connections too; they go on where that outlasts it
    one byte    each byte is a write of its own

    What comes from an address that is ``cut`` suffers the blackhole, whatever the mode.
    """

    def __init__(self, target: int) -> None:
        self.target = target  # the port to which new connections go
        self._mode = "pass"
        self._cut: set[str] = set()
        self._passing: dict[str, asyncio.Event] = {}  # by the address a connection comes from
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
        self._let_pass()
        if mode == "reset":
            for writer in list(self._open):
                _reset(writer)
        if mode == "half-close":
            for writer in list(self._clients):
                with suppress(OSError):
                    writer.write_eof()

    def cut(self, address: str) -> None:
        """Keep back what comes from an address, and what goes there in reply."""
        self._cut.add(address)
        self._let_pass()

    def mend(self) -> None:
        """Let everything go on that was cut."""
        self._cut.clear()
        self._let_pass()

    def _let_pass(self) -> None:
        for address, passing in self._passing.items():
            is_held = self._mode == "blackhole" or address in self._cut
            (passing.clear if is_held else passing.set)()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self._clients.add(writer)
        other: asyncio.StreamWriter | None = None
        address = writer.get_extra_info("peername")[0]
        passing = self._passing.setdefault(address, asyncio.Event())
        self._let_pass()
        try:
            if self._mode == "reset":
                _reset(writer)
                return
            from_server, other = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(other)
            if self._mode == "half-close":
                writer.write_eof()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, other, passing))
                group.create_task(self._carry(from_server, writer, passing))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # it has ended, in whatever manner
        finally:
            self._tasks.discard(task)
            for side in (writer, other):
                if side is not None:
                    self._open.discard(side)
                    self._clients.discard(side)
                    side.transport.abort()

    async def _carry(
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
            return  # nothing goes that way any more
        elif data:
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, whatever is under way."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port, gone after the block."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
