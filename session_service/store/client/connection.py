"""One connection to one server: bytes out, replies read by hiredis, made anew when it is lost.

redis-py makes the connection (URL, TLS, credentials, Sentinel) and hands it over. Calls leave as
they come, a few in one write, and nothing waits for an earlier reply, unless writes are to be
acknowledged.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection

from session_service.domain.errors import StoreUnavailable
from session_service.store.client.calls import (
    Call,
    FireAndForget,
    WriteBarrier,
    WriteConcern,
    command,
)
from session_service.store.client.executor import Signals, error_code, failure
from session_service.store.client.protocol import Argument
from session_service.store.client.script import Script

_MAX_UNWRITTEN = 4  # calls; more leave before the turn ends, and the server works meanwhile
_MAX_WAITING = 20_000  # calls; past that the server does not keep up, and waiting would not help
_TICKS = 8  # how often in one timeout it is looked for calls that have waited too long
_ATTEMPT_SECONDS = 0.9  # for a connection and its handshake, so that a server's return is noticed
_PAUSE_SECONDS = 0.1  # between attempts

_PING = command("PING")

log = logging.getLogger(__name__)


class Wire:
    """The way to one server.

    ``make`` makes a connection of redis-py, not connected yet. ``timeout``, in seconds, is what a
    call waits at most. ``redirect`` may take over a call that the server refused (and then returns
    true). ``signals`` learns of connections made and calls refused. While the server cannot be
    reached calls fail at once, and it is tried all the time.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        timeout: float,
        acknowledgement: WriteConcern | None = None,
        redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
        signals: Signals | None = None,
    ) -> None:
        self._make = make
        self._timeout = timeout
        self._acknowledgement = acknowledgement
        self._redirect = redirect
        self._signals = signals or Signals()
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._address: tuple[str, int] | None = None  # of a server that may be replaced
        self._patience: float | None = None  # as its connections have it
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: deque[Call] = deque()  # asked for while there is no connection
        self._watch: asyncio.TimerHandle | None = None
        self.problem = ""  # why the server cannot be reached, while it cannot

    @property
    def is_broken(self) -> bool:
        """Whether the server cannot be reached."""
        return bool(self.problem)

    def send(self, call: Call) -> None:
        """Send a call, or keep it until there is a connection, or fail it."""
        connection = self._connection
        if self.problem:
            call.fail(StoreUnavailable(self.problem))
        elif len(connection.in_flight if connection else self._unsent) >= _MAX_WAITING:
            call.fail(StoreUnavailable(f"{_MAX_WAITING} calls wait already"))
        else:
            (connection.send if connection else self._unsent.append)(call)
            if connection is None and self._connecting is None:
                self._connecting = self._loop.create_task(self._connect(), name="store-connect")
            if self._watch is None:
                self._watch = self._loop.call_later(self._timeout / _TICKS, self._drop_late)

    async def ask(self, commands: Iterable[tuple[Argument, ...]]) -> list[Any]:
        """Send some commands; returns the reply to each, or the error in its place."""
        calls = [Call(command(*words), self._loop) for words in commands]
        for call in calls:
            self.send(call)
        return await asyncio.gather(*(call.reply for call in calls), return_exceptions=True)

    def probe(self, seconds: float) -> None:
        """Have the server prove that it is there; one that was silent for longer is left."""
        self._patience = seconds
        if self._connection is not None:
            self._connection.patience = seconds
            self._connection.send(FireAndForget(_PING, self._loop))

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
        asked_at = self._loop.time()
        while (writer := await self._attempt()) is None:
            await asyncio.sleep(_PAUSE_SECONDS)
            asked_at = self._loop.time()
        if self.problem:
            log.info("store is back", extra={"was": self.problem})
        self.problem = ""
        self._connecting = None
        self._connection = _Connection(
            writer, asked_at, self._lost, self._take_refusal, self._acknowledgement
        )
        self._connection.patience = self._patience
        for call in self._unsent:
            if not call.reply.done():  # else its caller has given up
                self._connection.send(call)
        self._unsent.clear()
        self._signals.connected.set()

    def _take_refusal(self, call: Call, error: str) -> bool:
        self._signals.refused[error_code(error)] += 1
        return self._redirect(call, error)

    async def _attempt(self) -> asyncio.StreamWriter | None:
        made = self._make()
        try:
            async with asyncio.timeout(min(self._timeout, _ATTEMPT_SECONDS)):
                await made.connect()
            # redis-py offers no way to hand a connection over, but this is all it takes.
            writer, made._writer, made._reader = made._writer, None, None  # noqa: SLF001 - see above
            if writer is None or writer.is_closing():
                raise ConnectionResetError("connection lost")
        # uvloop raises RuntimeError if the connection ends during the handshake.
        except Exception as error:  # noqa: BLE001 - no error may end the attempts
            self._break(f"cannot connect: {str(error) or type(error).__name__}")
            with suppress(Exception):
                await made.disconnect(nowait=True)
            return None
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
        heard: float,
        lost: Callable[..., None],
        redirect: Callable[[Call, str], bool],
        acknowledgement: WriteConcern | None,
    ) -> None:
        self.in_flight: deque[Call] = deque()
        self.patience: float | None = None  # seconds of silence, after which it is not trusted
        self._heard = heard
        self._writer = writer  # kept, for it closes the transport when it goes
        self._transport = writer.transport
        self._lost = lost
        self._redirect = redirect
        self._acknowledgement = acknowledgement
        self._waits_for: WriteBarrier | None = None  # the next batch fills meanwhile
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[Call] = []
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=0)  # else uvloop writes at the turn's end only

    def send(self, call: Call) -> None:
        """Send a call: at once where nothing else is on its way, else with others of this turn."""
        unwritten, in_flight = self._unwritten, self.in_flight
        unwritten.append(call)
        if call.asks:
            in_flight.append(FireAndForget(b"", self._loop))
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
                oldest = writes[0].sent_at
                self._waits_for = WriteBarrier(self._acknowledgement, oldest, self._loop)
                for call in writes:
                    call.acknowledged = self._waits_for
                packed.append(self._waits_for.packed)
                self.in_flight.append(self._waits_for)
        self._transport.write(b"".join(packed))
        self._unwritten.clear()

    def data_received(self, data: bytes) -> None:
        """Give each reply to its caller."""
        if self.patience is not None:
            heard, self._heard = self._heard, self._loop.time()
            if self._heard - heard > self.patience:
                self.stop(f"silent for {self._heard - heard:.1f} s; it may have been replaced")
                return
        try:
            self._give_replies(data)
        except hiredis.HiredisError as error:
            self.stop(f"it does not speak Redis's protocol: {error}")

    def _give_replies(self, data: bytes) -> None:
        reader, in_flight = self._reader, self.in_flight
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if not in_flight:  # an earlier reply of this read has ended the connection
                self.stop("a reply came that nothing had asked for")
                return
            call = in_flight.popleft()
            if isinstance(reply, hiredis.ReplyError):
                self._refused(call, str(reply))
            else:
                call.answer(reply)
            if call is self._waits_for:
                self._waits_for = None
                self._write()

    def _refused(self, call: Call, error: str) -> None:
        code = error_code(error)
        if code == "NOSCRIPT" and call.script is not None:
            self._load_and_send(call, call.script)
        elif not self._redirect(call, error):
            call.fail(failure(error))
            if code == "READONLY":
                self.stop("the server is a replica now")

    def _load_and_send(self, call: Call, script: Script[Any, Any]) -> None:
        if call.load is not None:
            call.fail(call.load.error or StoreUnavailable("it does not keep scripts"))
            return
        call.load = FireAndForget(command("SCRIPT", "LOAD", script.source), self._loop)
        call.acknowledged = None
        self.send(call.load)
        self.send(call)

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


class DurableConnection(Wire):
    """Two connections: a server that is asked to acknowledge writes answers nothing else meanwhile.

    Reads go the other way, and so do commands. Whoever has seen a write acknowledged reads it.
    Of the two only the connection for reads signals that it was made: they are made together.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        timeout: float,
        acknowledgement: WriteConcern,
        redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
        signals: Signals | None = None,
    ) -> None:
        signals = signals or Signals()
        super().__init__(make, timeout, acknowledgement, redirect, Signals(signals.refused))
        self._reads = Wire(make, timeout, None, redirect, signals)

    @property
    def is_broken(self) -> bool:
        """Whether the server cannot be reached."""
        return super().is_broken or self._reads.is_broken

    def send(self, call: Call) -> None:
        """Send a call, or keep it until there is a connection, or fail it."""
        if call.script is not None and call.script.writes:
            super().send(call)
        else:
            self._reads.send(call)

    def probe(self, seconds: float) -> None:
        """Have the server prove that it is there; one that was silent for longer is left.

        Who acknowledges writes has proved it, and may take its time for it.
        """
        self._reads.probe(seconds)

    def leave_unless(self, address: tuple[str, int]) -> None:
        """Leave the server unless it is the one at this address."""
        super().leave_unless(address)
        self._reads.leave_unless(address)

    async def close(self) -> None:
        """Wait for the replies on their way, then close the connections."""
        await asyncio.gather(super().close(), self._reads.close())


def wire_to(
    make: Callable[[], AbstractConnection],
    timeout: float,
    acknowledgement: WriteConcern | None,
    redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
    signals: Signals | None = None,
) -> Wire:
    """Make the way to a server, with the parameters of ``Wire``."""
    if acknowledgement is None:
        return Wire(make, timeout, None, redirect, signals)
    return DurableConnection(make, timeout, acknowledgement, redirect, signals)
