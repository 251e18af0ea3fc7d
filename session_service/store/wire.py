"""The fast way to one server: bytes on one connection, replies read by hiredis.

redis-py makes the connection (URL, TLS, credentials) and hands it over. What is asked for in one
turn of the event loop leaves in one write, and nothing waits for an earlier reply.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from session_service.domain.errors import StoreUnavailable
from session_service.store.keys import KeySet, bulk
from session_service.store.pipeline import Argument, Arguments, Pipeline, failure
from session_service.store.scripts import Script

_MAX_WAITING = 20_000  # calls; past that the store does not keep up, and waiting would not help
_MAX_UNWRITTEN = 4  # calls; more leave before the turn ends, and the server works meanwhile
_TICKS = 8  # how often in one timeout it is looked for calls that have waited too long

log = logging.getLogger(__name__)


class _Call:
    __slots__ = ("arguments", "asked_at", "keys", "reply", "script")

    def __init__(
        self, script: Script, keys: KeySet, arguments: Arguments, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.asked_at = loop.time()
        self.reply: asyncio.Future[Any] = loop.create_future()

    def packed(self, *, with_source: bool = False) -> bytes:
        """Write the call for the wire; with its source for a server that does not know it."""
        script, keys = self.script, self.keys
        return b"".join(
            (
                b"*%d\r\n" % (3 + keys.size + len(self.arguments)),
                script.packed_source if with_source else script.packed_sha,
                keys.packed,
                *map(_packed_argument, self.arguments),
            )
        )

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


def _packed_argument(argument: Argument) -> bytes:
    if isinstance(argument, bytes):
        return bulk(argument)
    return bulk(str(argument).encode())


class Wire(Pipeline):
    """A pipeline on one connection to one server, made anew when it is lost."""

    def __init__(self, client: Redis, timeout: float) -> None:
        super().__init__(client, timeout)
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: deque[_Call] = deque()  # asked for while there is no connection
        self._watch: asyncio.TimerHandle | None = None

    def ask(self, script: Script, keys: KeySet, arguments: Arguments) -> asyncio.Future[Any]:
        """Send a call, or keep it until there is a connection."""
        call = _Call(script, keys, arguments, self._loop)
        connection = self._connection
        if connection is not None:
            if len(connection.in_flight) >= _MAX_WAITING:
                call.fail(StoreUnavailable(f"{_MAX_WAITING} calls wait for a reply"))
            else:
                connection.send(call)
        else:
            if len(self._unsent) >= _MAX_WAITING:
                call.fail(StoreUnavailable(f"{_MAX_WAITING} calls wait for a connection"))
            else:
                self._unsent.append(call)
            if self._connecting is None:
                self._connecting = self._loop.create_task(self._connect(), name="store-connect")
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout / _TICKS, self._drop_late)
        return call.reply

    async def close(self) -> None:
        """Wait for the replies on their way, then close the connections."""
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        connection = self._connection
        if connection is not None:
            if connection.in_flight:
                await asyncio.wait([connection.in_flight[-1].reply], timeout=self._timeout)
            connection.close()
        if self._watch is not None:
            self._watch.cancel()
        await super().close()

    async def _connect(self) -> None:
        made = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(self._timeout):
                await made.connect()
        except (TimeoutError, RedisError, OSError) as error:
            unavailable = StoreUnavailable(f"cannot connect: {error or type(error).__name__}")
            for call in self._unsent:
                call.fail(unavailable)
        else:
            # redis-py offers no way to hand a connection over, but this is all it takes.
            writer, made._writer, made._reader = made._writer, None, None  # noqa: SLF001
            self._connection = _Connection(writer, self._lost)
            for call in self._unsent:
                if not call.reply.done():  # else its caller has given up
                    self._connection.send(call)
        finally:
            self._unsent.clear()
            self._connecting = None

    def _lost(self, connection: "_Connection") -> None:
        if self._connection is connection:
            self._connection = None

    def _drop_late(self) -> None:
        """Fail what has waited too long. Replies come in order, so the oldest tells of a stall."""
        self._watch = None
        too_old = self._loop.time() - self._timeout
        while self._unsent and self._unsent[0].asked_at < too_old:
            self._unsent.popleft().fail(StoreUnavailable("no connection in time"))
        on_its_way = self._connection.in_flight if self._connection else None
        if self._connection and on_its_way and on_its_way[0].asked_at < too_old:
            self._connection.stop(f"no reply in {self._timeout:g} s")
        if self._unsent or on_its_way:
            self._watch = self._loop.call_later(self._timeout / _TICKS, self._drop_late)


class _Connection(asyncio.Protocol):
    """What is on its way on one connection, oldest first."""

    def __init__(self, writer: asyncio.StreamWriter, lost: "Callable[[_Connection], None]") -> None:
        self.in_flight: deque[_Call] = deque()
        self._writer = writer  # kept, for it closes the transport when it goes
        self._transport = writer.transport
        self._lost = lost
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[bytes] = []
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=0)  # else uvloop writes at the turn's end only

    def send(self, call: _Call, *, with_source: bool = False) -> None:
        """Send a call, with others of this turn of the loop."""
        unwritten = self._unwritten
        if not unwritten:
            self._loop.call_soon(self._write)
        unwritten.append(call.packed(with_source=with_source))
        self.in_flight.append(call)
        if len(unwritten) == _MAX_UNWRITTEN:
            self._write()

    def _write(self) -> None:
        if self._unwritten:
            self._transport.write(b"".join(self._unwritten))
            self._unwritten.clear()

    def data_received(self, data: bytes) -> None:
        """Give each reply to its caller."""
        reader, in_flight = self._reader, self.in_flight
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            call = in_flight.popleft()
            if call.reply.done():
                continue  # its caller has given up
            if not isinstance(reply, hiredis.ReplyError):
                call.reply.set_result(reply)
            elif str(reply).startswith("NOSCRIPT"):
                self.send(call, with_source=True)
            else:
                call.fail(failure(str(reply)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all that is on its way; it may have taken effect."""
        self.stop(f"connection lost: {exc}" if exc else "connection lost")

    def stop(self, reason: str) -> None:
        """Fail all that is on its way and close the connection."""
        self._lost(self)
        self.close()
        waiting = [call for call in self.in_flight if not call.reply.done()]
        self.in_flight.clear()
        if waiting:
            log.warning("store connection lost", extra={"reason": reason, "calls": len(waiting)})
        for call in waiting:
            call.fail(StoreUnavailable(reason))

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()
