"""A connection to one server, shared by all callers and made again whenever it is lost.

redis-py makes the connection (URL, TLS, credentials, Sentinel) and hands it over. Calls are sent as
they come, a few in one write, and none waits for the reply to an earlier one, unless there is a
write concern.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from redis.asyncio.connection import AbstractConnection

from session_service.domain.errors import StoreUnavailable
from session_service.store.client.calls import Call, FireAndForget, WriteConcern, command
from session_service.store.client.executor import Signals, error_code
from session_service.store.client.link import Link
from session_service.store.client.protocol import Argument, RawReply

_MAX_WAITING = 20_000  # calls; with more the server does not keep up, and waiting would not help
_CHECKS = 8  # for calls that have waited too long, in the time of one timeout
_ATTEMPT_SECONDS = 0.9  # to connect, with the handshake, so that a server's return is noticed
_PAUSE_SECONDS = 0.1  # between attempts

_PING = command("PING")

log = logging.getLogger(__name__)


class Connection:
    """A connection to one server.

    ``make`` makes a connection of redis-py that is not connected yet. ``timeout``, in seconds, is
    the longest that a call waits. ``redirect`` may take over a call that the server refused, and
    then returns True. ``signals`` records connections made and calls refused. While the server
    cannot be reached, calls fail at once, and the connection is attempted again and again.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        timeout: float,
        write_concern: WriteConcern | None = None,
        redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
        signals: Signals | None = None,
    ) -> None:
        self._make = make
        self._timeout = timeout
        self._write_concern = write_concern
        self._redirect = redirect
        self._signals = signals or Signals()
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None  # None while there is no connection
        self._address: tuple[str, int] | None = None  # of the server that it is connected to
        self._max_silence: float | None = None  # of its links
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: deque[Call] = deque()  # submitted while there is no connection
        self._check: asyncio.TimerHandle | None = None
        self.problem = ""  # why the server cannot be reached, while it cannot

    @property
    def is_broken(self) -> bool:
        """Whether the server cannot be reached."""
        return bool(self.problem)

    def send(self, call: Call) -> None:
        """Send a call, or keep it until there is a connection, or fail it."""
        link = self._link
        if self.problem:
            call.fail(StoreUnavailable(self.problem))
        elif len(link.in_flight if link else self._unsent) >= _MAX_WAITING:
            call.fail(StoreUnavailable(f"{_MAX_WAITING} calls wait already"))
        else:
            (link.send if link else self._unsent.append)(call)
            if link is None and self._connecting is None:
                self._connecting = self._loop.create_task(self._connect(), name="store-connect")
            if self._check is None:
                self._check = self._loop.call_later(self._timeout / _CHECKS, self._fail_late)

    async def run_commands(self, commands: Iterable[tuple[Argument, ...]]) -> list[RawReply]:
        """Run commands, e.g. ``("TIME",)``; return the reply to each, or the error in its place."""
        calls = [Call(command(*words), self._loop) for words in commands]
        for call in calls:
            self.send(call)
        return await asyncio.gather(*(call.reply for call in calls), return_exceptions=True)

    def check_alive(self, max_silence: float) -> None:
        """PING the server, and drop the connection if it was silent for that many seconds."""
        self._max_silence = max_silence
        if self._link is not None:
            self._link.max_silence = max_silence
            self._link.send(FireAndForget(_PING, self._loop))

    def drop_unless(self, address: tuple[str, int]) -> None:
        """Drop the connection unless it goes to this address."""
        if self._link and self._address != address:
            self._link.stop("another server has taken its place")

    async def close(self) -> None:
        """Wait for the replies to the calls in flight, then close the connection."""
        link, self.problem = self._link, "closed"
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self._fail_unsent()
        if link is not None:
            if link.in_flight:
                await asyncio.wait([link.in_flight[-1].reply], timeout=self._timeout)
            self._link = None
            link.close()
        if self._check is not None:
            self._check.cancel()

    async def _connect(self) -> None:
        attempted_at = self._loop.time()
        while (writer := await self._attempt()) is None:
            await asyncio.sleep(_PAUSE_SECONDS)
            attempted_at = self._loop.time()
        if self.problem:
            log.info("store is back", extra={"was": self.problem})
        self.problem = ""
        self._connecting = None
        self._link = Link(
            writer,
            attempted_at,
            self._lost,
            self._take_refusal,
            self._write_concern,
            measures=self._signals.measures,
        )
        self._link.max_silence = self._max_silence
        for call in self._unsent:
            if not call.reply.done():  # the caller may have been cancelled
                self._link.send(call)
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
            name = "no answer" if isinstance(error, TimeoutError) else type(error).__name__
            self._break(f"cannot connect: {str(error) or name}")
            with suppress(Exception):
                await made.disconnect(nowait=True)
            return None
        self._address = getattr(made, "host", ""), getattr(made, "port", 0)
        return writer

    def _lost(self, link: Link, reason: str, *, hangs: bool) -> None:
        """Connect again. Calls do not wait for that if the server hangs."""
        if self._link is not link:
            return
        self._link = None
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

    def _fail_late(self) -> None:
        """Fail calls that waited too long. Replies come in order: the oldest call shows a stall."""
        self._check = None
        too_old = self._loop.time() - self._timeout
        while self._unsent and self._unsent[0].sent_at < too_old:
            self._unsent.popleft().fail(StoreUnavailable("no connection in time"))
        in_flight = self._link.in_flight if self._link else None
        if self._link and in_flight and in_flight[0].sent_at < too_old:
            self._link.stop(f"no reply in {self._timeout:g} s", hangs=True)
        if self._unsent or in_flight:
            self._check = self._loop.call_later(self._timeout / _CHECKS, self._fail_late)


class DurableConnection(Connection):
    """Two connections to a server: one for writes, which wait for a write concern, one for reads.

    A server that acknowledges a batch of writes answers nothing else on that connection meanwhile.
    A write that was acknowledged is visible to reads. Both connections are made together,
    and only the one for reads signals that.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        timeout: float,
        write_concern: WriteConcern,
        redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
        signals: Signals | None = None,
    ) -> None:
        signals = signals or Signals()
        own = Signals(signals.measures, signals.refused)
        super().__init__(make, timeout, write_concern, redirect, own)
        self._reads = Connection(make, timeout, None, redirect, signals)

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

    def check_alive(self, max_silence: float) -> None:
        """Check the connection for reads: the other may be silent while it waits for replicas."""
        self._reads.check_alive(max_silence)

    def drop_unless(self, address: tuple[str, int]) -> None:
        """Drop the connections unless they go to this address."""
        super().drop_unless(address)
        self._reads.drop_unless(address)

    async def close(self) -> None:
        """Wait for the replies to the calls in flight, then close the connections."""
        await asyncio.gather(super().close(), self._reads.close())


def connect_to(
    make: Callable[[], AbstractConnection],
    timeout: float,
    write_concern: WriteConcern | None,
    redirect: Callable[[Call, str], bool] = lambda _call, _error: False,
    signals: Signals | None = None,
) -> Connection:
    """Make a connection, a DurableConnection if there is a write concern."""
    if write_concern is None:
        return Connection(make, timeout, None, redirect, signals)
    return DurableConnection(make, timeout, write_concern, redirect, signals)
