"""Commands on their way to a server, each with the future of its reply, and write concerns."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from session_service.domain.errors import StoreUnavailable
from session_service.store.client.protocol import Argument, KeySet, RawReply, pack
from session_service.store.client.script import A, R, Script


class WriteConcern(NamedTuple):
    """The condition, beyond its own reply, for a write to count as done.

    For example ``WAIT 1 1600``, met if at least one replica has acknowledged the batch.
    """

    command: Callable[[int], bytes]  # follows a batch with writes; its argument is a timeout in ms
    is_met: Callable[[RawReply], bool]  # by the reply to that command
    failure_message: str
    seconds: float  # from the submission of a write until the server gives up waiting


class Call:
    """A command, and the future of its reply."""

    __slots__ = (
        "barrier",
        "is_asking",
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
        self.sent_at = time.monotonic()  # the loop's time has milliseconds only, with uvloop
        self.reply: asyncio.Future[RawReply] = loop.create_future()
        self.barrier: WriteBarrier | None = None  # which the reply has to wait for
        self.load: FireAndForget | None = None  # of its script, if the server did not know it
        self.redirected = False
        self.is_asking = False  # whether it begins with ASKING, which holds for the next command

    @classmethod
    def of_script(
        cls, script: Script[A, R], keys: KeySet, arguments: A, loop: asyncio.AbstractEventLoop
    ) -> "Call":
        """Make a call of a script."""
        return cls(script.pack(keys, arguments), loop, script, keys.shard)

    def set_asking(self, is_asking: bool) -> None:
        """Begin the call with ASKING, or no longer."""
        if is_asking and not self.is_asking:
            self.packed = _ASKING + self.packed
        elif self.is_asking and not is_asking:
            self.packed = self.packed.removeprefix(_ASKING)
        self.is_asking = is_asking

    def answer(self, value: RawReply) -> None:
        """Set the reply, or leave that to the barrier if there is one."""
        if self.barrier is not None:
            self.barrier.waiting.append((self, value))
        elif not self.reply.done():  # the caller may have been cancelled
            self.reply.set_result(value)

    def fail(self, error: Exception) -> None:
        """Set an error in place of the reply."""
        if not self.reply.done():
            self.reply.set_exception(error)


class FireAndForget(Call):
    """A command without a caller: nobody waits for its reply."""

    __slots__ = ("error",)

    def __init__(self, packed: bytes, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(packed, loop)
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Keep the error, for calls that depend on the command."""
        self.error = error


class WriteBarrier(FireAndForget):
    """The command that follows a batch with writes: they get their replies if its reply is good."""

    __slots__ = ("concern", "waiting")

    def __init__(
        self, concern: WriteConcern, oldest: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        left = oldest + concern.seconds - loop.time()
        super().__init__(concern.command(max(1, int(left * 1000))), loop)  # 0 would wait forever
        self.concern = concern
        self.waiting: list[tuple[Call, RawReply]] = []  # each with the reply to itself

    def answer(self, value: RawReply) -> None:
        """Set the replies of the writes if the concern is met, otherwise StoreUnavailable."""
        if not self.concern.is_met(value):
            self._fail_all(StoreUnavailable(self.concern.failure_message))
            return
        for call, reply in self.waiting:
            call.barrier = None
            call.answer(reply)
        self._finish()

    def fail(self, error: Exception) -> None:
        """Fail the writes. A refusal by the server is for the operator to solve: unavailable."""
        if not isinstance(error, StoreUnavailable):
            error = StoreUnavailable(f"{self.concern.failure_message}: {error}")
        self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        for call, _ in self.waiting:
            call.fail(error)
        self._finish()

    def _finish(self) -> None:
        if not self.reply.done():  # a connection that closes waits for its last reply
            self.reply.set_result(None)


def command(*words: Argument) -> bytes:
    r"""Return a command as it is sent, e.g. ``*1\r\n$4\r\nPING\r\n``."""
    return b"".join((b"*%d\r\n" % len(words), *map(pack, words)))


_ASKING = command("ASKING")
