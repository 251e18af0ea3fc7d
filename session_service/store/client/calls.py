"""Commands on their way, each with its caller's reply, and what writes wait for beyond it."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from session_service.domain.errors import StoreUnavailable
from session_service.store.client.protocol import Argument, KeySet, pack
from session_service.store.client.script import A, R, Script


class WriteConcern(NamedTuple):
    """What a write waits for beyond its own reply."""

    command: Callable[[int], bytes]  # sent after a batch with writes; waits for so many ms
    suffices: Callable[[Any], bool]  # whether its reply does
    lack: str  # what to say where it does not
    seconds: float  # from when a write was asked for until it is given up


class Call:
    """One command, and its caller's reply."""

    __slots__ = (
        "acknowledged",
        "asks",
        "load",
        "packed",
        "redirected",
        "reply",
        "script",
        "sent_at",
        "shard",
    )

    def __init__(
        self,
        packed: bytes,
        loop: asyncio.AbstractEventLoop,
        script: Script[Any, Any] | None = None,
        shard: str = "",
    ) -> None:
        self.packed = packed
        self.script = script
        self.shard = shard
        self.sent_at = loop.time()
        self.reply: asyncio.Future[Any] = loop.create_future()
        self.acknowledged: WriteBarrier | None = None
        self.load: FireAndForget | None = None  # of its script, which the server did not know
        self.redirected = False
        self.asks = False  # whether ASKING, which holds for what follows directly, is part of it

    @classmethod
    def of_script(
        cls, script: Script[A, R], keys: KeySet, arguments: A, loop: asyncio.AbstractEventLoop
    ) -> "Call":
        """Make a call of a script."""
        return cls(script.pack(keys, arguments), loop, script, keys.shard)

    def ask_first(self, asks: bool) -> None:
        """Put ASKING before it, or no more."""
        if asks and not self.asks:
            self.packed = _ASKING + self.packed
        elif self.asks and not asks:
            self.packed = self.packed.removeprefix(_ASKING)
        self.asks = asks

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


class FireAndForget(Call):
    """A command whose reply nobody waits for."""

    __slots__ = ("error",)

    def __init__(self, packed: bytes, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(packed, loop)
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Keep the error for whoever depends on the command."""
        self.error = error


class WriteBarrier(FireAndForget):
    """The command behind a batch that tells whether its writes are safe."""

    __slots__ = ("by", "held")

    def __init__(self, by: WriteConcern, oldest: float, loop: asyncio.AbstractEventLoop) -> None:
        left = oldest + by.seconds - loop.time()
        super().__init__(by.command(max(1, int(left * 1000))), loop)  # 0 would wait for ever
        self.by = by
        self.held: list[tuple[Call, Any]] = []

    def answer(self, value: Any) -> None:
        """Give the callers their replies where the writes are safe, else an error."""
        if not self.by.suffices(value):
            self._give_up(StoreUnavailable(self.by.lack))
            return
        for call, reply in self.held:
            call.acknowledged = None
            call.answer(reply)
        self._end()

    def fail(self, error: Exception) -> None:
        """Pass on what happened; what the server refuses is for the operator to mend."""
        unavailable = isinstance(error, StoreUnavailable)
        self._give_up(error if unavailable else StoreUnavailable(f"{self.by.lack}: {error}"))

    def _give_up(self, error: Exception) -> None:
        for call, _ in self.held:
            call.fail(error)
        self._end()

    def _end(self) -> None:
        if not self.reply.done():  # it is what a wire that closes waits for
            self.reply.set_result(None)


def command(*words: Argument) -> bytes:
    """Write a command for the wire."""
    return b"".join((b"*%d\r\n" % len(words), *map(pack, words)))


_ASKING = command("ASKING")
