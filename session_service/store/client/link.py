"""One connection to one server that is up: commands out, and replies in their order."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from session_service.domain.errors import StoreUnavailable
from session_service.metrics.catalogue import OTHER
from session_service.metrics.measures import Measures
from session_service.store.client.calls import (
    Call,
    FireAndForget,
    WriteBarrier,
    WriteConcern,
    command,
)
from session_service.store.client.executor import error_code, failure
from session_service.store.client.script import Script

_MAX_UNWRITTEN = 4  # calls; more leave before the turn ends, so the server works meanwhile


class Link(asyncio.Protocol):
    """The calls in flight on a connection, oldest first.

    ``lost(link, reason, hangs=…)`` is called when the link ends. ``redirect(call, error)`` may take
    over a call that the server refused, and then returns True.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        connected_at: float,
        lost: Callable[..., None],
        redirect: Callable[[Call, str], bool],
        write_concern: WriteConcern | None,
        *,
        measures: Measures,
    ) -> None:
        self.in_flight: deque[Call] = deque()
        self.max_silence: float | None = None  # seconds after which the server is not trusted
        self._last_received = connected_at
        self._writer = writer  # kept, because it closes the transport when it is collected
        self._transport = writer.transport
        self._lost = lost
        self._redirect = redirect
        self._write_concern = write_concern
        self._batches = measures.store_batches
        self._durations = measures.store_calls
        self._barrier: WriteBarrier | None = None  # that is in flight; the next batch fills
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[Call] = []
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=0)  # else uvloop writes at the turn's end only

    def send(self, call: Call) -> None:
        """Send a call: at once if no other is in flight, otherwise with others of this turn."""
        unwritten, in_flight = self._unwritten, self.in_flight
        unwritten.append(call)
        if call.is_asking:
            in_flight.append(FireAndForget(b"", self._loop))  # ASKING has a reply of its own
        in_flight.append(call)
        if len(in_flight) == 1 or len(unwritten) == _MAX_UNWRITTEN:
            self._write()
        elif len(unwritten) == 1:
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        if not self._unwritten or self._barrier is not None:
            return
        packed = [call.packed for call in self._unwritten]
        self._batches.observe(len(packed))
        if self._write_concern is not None:
            writes = [call for call in self._unwritten if call.script and call.script.writes]
            if writes:
                oldest = writes[0].sent_at
                self._barrier = WriteBarrier(self._write_concern, oldest, self._loop)
                for call in writes:
                    call.barrier = self._barrier
                packed.append(self._barrier.packed)
                self.in_flight.append(self._barrier)
        self._transport.write(b"".join(packed))
        self._unwritten.clear()

    def data_received(self, data: bytes) -> None:
        """Pass each reply to its call."""
        if self.max_silence is not None:
            before, self._last_received = self._last_received, self._loop.time()
            silence = self._last_received - before
            if silence > self.max_silence:
                self.stop(f"silent for {silence:.1f} s; it may have been replaced")
                return
        try:
            self._pass_replies(data)
        except hiredis.HiredisError as error:
            self.stop(f"it does not speak Redis's protocol: {error}")

    def _pass_replies(self, data: bytes) -> None:
        reader, in_flight = self._reader, self.in_flight
        reader.feed(data)
        now = time.monotonic()
        while (reply := reader.gets()) is not False:
            if not in_flight:  # an earlier reply in this data has ended the link
                self.stop("a reply came that nothing had asked for")
                return
            call = in_flight.popleft()
            if isinstance(reply, hiredis.ReplyError):
                self._refused(call, str(reply))
            else:
                call.answer(reply)
                if call.script is not None and call.barrier is None:
                    self._measure(call, call.script, now)
            if call is self._barrier:
                for waiting, _ in self._barrier.waiting:
                    if waiting.script is not None:
                        self._measure(waiting, waiting.script, now)
                self._barrier = None
                self._write()

    def _measure(self, call: Call, script: Script[Any, Any], now: float) -> None:
        durations = self._durations
        (durations.get(script.name) or durations[OTHER]).observe(now - call.sent_at)

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
        call.barrier = None
        self.send(call.load)
        self.send(call)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all calls in flight; they may have taken effect."""
        self.stop(f"connection lost: {exc}" if exc else "connection lost")

    def stop(self, reason: str, *, hangs: bool = False) -> None:
        """Fail all calls in flight and close the connection. ``hangs``: the server is silent."""
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
