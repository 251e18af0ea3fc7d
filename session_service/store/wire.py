"""One connection to one server: bytes out, replies read by hiredis, made anew when it is lost.

redis-py makes the connection (URL, TLS, credentials, Sentinel) and hands it over. Calls leave as
they come, a few in one write, and nothing waits for an earlier reply, unless writes are to be
acknowledged.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from session_service.domain.errors import StoreUnavailable
from session_service.store.keys import KeySet, bulk
from session_service.store.pipeline import Argument, Arguments, failure
from session_service.store.scripts import Script

_MAX_UNWRITTEN = 4  # calls; more leave before the turn ends, and the server works meanwhile
_MAX_WAITING = 20_000  # calls; past that the server does not keep up, and waiting would not help
_TICKS = 8  # how often in one timeout it is looked for calls that have waited too long
_ATTEMPT_SECONDS = 0.9  # for a connection and its handshake, so that a server's return is noticed
_PAUSE_SECONDS = 0.1  # between attempts

log = logging.getLogger(__name__)


class Acknowledgement(NamedTuple):
    """What a write waits for beyond its own reply."""

    command: bytes  # sent after a batch with writes
    suffices: Callable[[Any], bool]  # whether its reply does
    lack: str  # what to say where it does not


class Call:
    """One command, and its caller's reply."""

    __slots__ = ("acknowledged", "packed", "redirected", "reply", "script", "sent_at", "shard")

    def __init__(
        self,
        packed: bytes,
        loop: asyncio.AbstractEventLoop,
        script: Script | None = None,
        shard: str = "",
    ) -> None:
        self.packed = packed
        self.script = script
        self.shard = shard
        self.sent_at = loop.time()
        self.reply: asyncio.Future[Any] = loop.create_future()
        self.acknowledged: _Acknowledged | None = None
        self.redirected = False

    @classmethod
    def of_script(
        cls, script: Script, keys: KeySet, arguments: Arguments, loop: asyncio.AbstractEventLoop
    ) -> "Call":
        """Make a call of a script."""
        head = b"*%d\r\n" % (3 + keys.size + len(arguments))
        packed = b"".join((head, script.packed_sha, keys.packed, *map(_packed, arguments)))
        return cls(packed, loop, script, keys.shard)

    def answer(self, value: Any) -> None:
        """Give the caller its reply, once it is acknowledged if it has to be."""
        if self.acknowledged is not None:
            self.acknowledged.held.append((self, value))
        elif not self.reply.done():  # else its caller has given up
            self.reply.set_result(value)

    def fail(self, error: Exception) -> None:
        """Give the caller an error."""
        if not self.reply.done():
            self.reply.set_exception(error)


class _Aside(Call):
    """A command whose reply nobody waits for."""

    def fail(self, error: Exception) -> None:
        pass


class _Acknowledged(_Aside):
    """The command behind a batch that tells whether its writes are safe."""

    __slots__ = ("by", "held")

    def __init__(self, by: Acknowledgement, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(by.command, loop)
        self.by = by
        self.held: list[tuple[Call, Any]] = []

    def answer(self, value: Any) -> None:
        if not self.by.suffices(value):
            self.fail(StoreUnavailable(self.by.lack))
            return
        for call, reply in self.held:
            call.acknowledged = None
            call.answer(reply)

    def fail(self, error: Exception) -> None:
        for call, _ in self.held:
            call.fail(error)


def command(*words: Argument) -> bytes:
    """Write a command for the wire."""
    return b"".join((b"*%d\r\n" % len(words), *map(_packed, words)))


def _packed(argument: Argument) -> bytes:
    return bulk(argument if isinstance(argument, bytes) else str(argument).encode())


_ASKING = command("ASKING")


class Wire:
    """The way to one server.

    ``make`` makes a connection of redis-py, not connected yet. ``timeout``, in seconds, is what a
    call waits at most. ``redirect`` may take over a call that the server refused (and then returns
    true). While the server cannot be reached calls fail at once, and it is tried all the time.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        timeout: float,
        acknowledgement: Acknowledgement | None = None,
        redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
    ) -> None:
        self._make = make
        self._timeout = timeout
        self._acknowledgement = acknowledgement
        self._redirect = redirect
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._address: tuple[str, int] | None = None  # of a server that may be replaced
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: deque[Call] = deque()  # asked for while there is no connection
        self._watch: asyncio.TimerHandle | None = None
        self.problem = ""  # why the server cannot be reached, while it cannot

    def send(self, call: Call, *, asking: bool = False) -> None:
        """Send a call, or keep it until there is a connection, or fail it."""
        connection = self._connection
        if self.problem:
            call.fail(StoreUnavailable(self.problem))
        elif len(connection.in_flight if connection else self._unsent) >= _MAX_WAITING:
            call.fail(StoreUnavailable(f"{_MAX_WAITING} calls wait already"))
        else:
            add = connection.send if connection else self._unsent.append
            if asking:
                add(_Aside(_ASKING, self._loop))
            add(call)
            if connection is None and self._connecting is None:
                self._connecting = self._loop.create_task(self._connect(), name="store-connect")
            if self._watch is None:
                self._watch = self._loop.call_later(self._timeout / _TICKS, self._drop_late)

    def leave_unless(self, address: tuple[str, int]) -> None:
        """Leave the server unless it is the one at this address."""
        if self._connection and self._address != address:
            self._connection.stop("another server has taken its place")

    async def close(self) -> None:
        """Wait for the replies on their way, then close the connection."""
        connection, self.problem = self._connection, "closed"
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self._fail_unsent()
        if connection is not None:
            if connection.in_flight:
                await asyncio.wait([connection.in_flight[-1].reply], timeout=self._timeout)
            self._connection = None
            connection.close()
        if self._watch is not None:
            self._watch.cancel()

    async def _connect(self) -> None:
        writer = await self._attempt()
        while writer is None:
            await asyncio.sleep(_PAUSE_SECONDS)
            writer = await self._attempt()
        if self.problem:
            log.info("store is back", extra={"was": self.problem})
        self.problem = ""
        self._connecting = None
        self._connection = _Connection(writer, self._lost, self._redirect, self._acknowledgement)
        for call in self._unsent:
            if not call.reply.done():  # else its caller has given up
                self._connection.send(call)
        self._unsent.clear()

    async def _attempt(self) -> asyncio.StreamWriter | None:
        made = self._make()
        try:
            async with asyncio.timeout(min(self._timeout, _ATTEMPT_SECONDS)):
                await made.connect()  # type: ignore[no-untyped-call]
        except (TimeoutError, RedisError, OSError) as error:
            self._break(f"cannot connect: {error or type(error).__name__}")
            await made.disconnect(nowait=True)
            return None
        # redis-py offers no way to hand a connection over, but this is all it takes.
        writer, made._writer, made._reader = made._writer, None, None  # noqa: SLF001
        self._address = getattr(made, "host", ""), getattr(made, "port", 0)
        return writer

    def _lost(self, connection: "_Connection", reason: str, *, hangs: bool) -> None:
        """Try to connect again; a server that hangs is not waited for."""
        if self._connection is not connection:
            return
        self._connection = None
        log.warning("store connection lost", extra={"reason": reason})
        if hangs:
            self._break(reason)
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect(), name="store-connect")

    def _break(self, problem: str) -> None:
        if not self.problem:
            log.warning("store cannot be reached", extra={"reason": problem})
        self.problem = problem
        self._fail_unsent()

    def _fail_unsent(self) -> None:
        while self._unsent:
            self._unsent.popleft().fail(StoreUnavailable(self.problem))

    def _drop_late(self) -> None:
        """Fail what has waited too long. Replies come in order, so the oldest tells of a stall."""
        self._watch = None
        too_old = self._loop.time() - self._timeout
        while self._unsent and self._unsent[0].sent_at < too_old:
            self._unsent.popleft().fail(StoreUnavailable("no connection in time"))
        on_its_way = self._connection.in_flight if self._connection else None
        if self._connection and on_its_way and on_its_way[0].sent_at < too_old:
            self._connection.stop(f"no reply in {self._timeout:g} s", hangs=True)
        if self._unsent or on_its_way:
            self._watch = self._loop.call_later(self._timeout / _TICKS, self._drop_late)


class _Connection(asyncio.Protocol):
    """What is on its way on one connection, oldest first."""

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        lost: Callable[..., None],
        redirect: Callable[[Call, str], bool],
        acknowledgement: Acknowledgement | None,
    ) -> None:
        self.in_flight: deque[Call] = deque()
        self._writer = writer  # kept, for it closes the transport when it goes
        self._transport = writer.transport
        self._lost = lost
        self._redirect = redirect
        self._acknowledgement = acknowledgement
        self._waits_for: _Acknowledged | None = None  # the next batch fills meanwhile
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[Call] = []
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=0)  # else uvloop writes at the turn's end only

    def send(self, call: Call) -> None:
        """Send a call: at once where nothing else is on its way, else with others of this turn."""
        unwritten, in_flight = self._unwritten, self.in_flight
        unwritten.append(call)
        in_flight.append(call)
        if len(in_flight) == 1 or len(unwritten) == _MAX_UNWRITTEN:
            self._write()
        elif len(unwritten) == 1:
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        if not self._unwritten or self._waits_for is not None:
            return
        packed = [call.packed for call in self._unwritten]
        if self._acknowledgement is not None:
            writes = [call for call in self._unwritten if call.script and call.script.writes]
            if writes:
                self._waits_for = _Acknowledged(self._acknowledgement, self._loop)
                for call in writes:
                    call.acknowledged = self._waits_for
                packed.append(self._waits_for.packed)
                self.in_flight.append(self._waits_for)
        self._transport.write(b"".join(packed))
        self._unwritten.clear()

    def data_received(self, data: bytes) -> None:
        """Give each reply to its caller."""
        reader, in_flight = self._reader, self.in_flight
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            call = in_flight.popleft()
            if isinstance(reply, hiredis.ReplyError):
                self._refused(call, str(reply))
            else:
                call.answer(reply)
            if call is self._waits_for:
                self._waits_for = None
                self._write()

    def _refused(self, call: Call, error: str) -> None:
        if error.startswith("NOSCRIPT") and call.script is not None:
            self.send(_Aside(command("SCRIPT", "LOAD", call.script.source), self._loop))
            call.acknowledged = None
            self.send(call)
        elif not self._redirect(call, error):
            call.fail(failure(error))
            if error.startswith("READONLY"):
                self.stop("the server is a replica now")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all that is on its way; it may have taken effect."""
        self.stop(f"connection lost: {exc}" if exc else "connection lost")

    def stop(self, reason: str, *, hangs: bool = False) -> None:
        """Fail all that is on its way and close the connection."""
        self._lost(self, reason, hangs=hangs)
        self.close()
        waiting = list(self.in_flight)
        self.in_flight.clear()
        self._unwritten.clear()
        for call in waiting:
            call.fail(StoreUnavailable(reason))

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()
