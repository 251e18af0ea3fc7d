"""The executor for fakeredis, over redis-py's client."""

import asyncio
import time
from collections import deque
from typing import NamedTuple

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from session_service.domain.errors import StoreUnavailable
from session_service.metrics.catalogue import OTHER
from session_service.metrics.measures import Measures
from session_service.store.client.executor import ScriptExecutor, Signals, failure
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, R, Script


class _Call(NamedTuple):
    operation: str
    began_at: float
    source: bytes
    words: list[bytes]
    reply: asyncio.Future[RawReply]


class FakeRedisExecutor(ScriptExecutor):
    """Sends batches with a redis-py client: while one is in flight, the next one fills."""

    MAX_BATCH = 512  # commands; it keeps Redis busy for about 5 ms

    def __init__(self, client: Redis, timeout: float, measures: Measures | None = None) -> None:
        self._client = client
        self._timeout = timeout
        self.signals = Signals(measures)
        self._waiting: deque[_Call] = deque()
        self._sender: asyncio.Task[None] | None = None

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Add a call to the next batch."""
        loop = asyncio.get_running_loop()
        words = script.words(keys, arguments)
        call = _Call(script.name, time.monotonic(), script.source, words, loop.create_future())
        self._waiting.append(call)
        if self._sender is None:
            self._sender = loop.create_task(self._send_waiting(), name="store-executor")
        timer = loop.call_later(self._timeout, _time_out, call.reply, self._timeout)
        call.reply.add_done_callback(lambda _: timer.cancel())
        return call.reply

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on fakeredis."""
        return {"": [await self._try(words) for words in commands]}

    async def _try(self, words: tuple[Argument, ...]) -> RawReply:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._client.execute_command(*words)
        except (TimeoutError, redis_errors.RedisError, OSError) as error:
            return _as_ours(error)

    async def close(self) -> None:
        """Wait for the batch in flight, then close the connections."""
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=self._timeout)
        await self._client.aclose()

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                batch: list[_Call] = []
                while self._waiting and len(batch) < self.MAX_BATCH:
                    call = self._waiting.popleft()
                    if not call.reply.done():  # the caller may have been cancelled
                        batch.append(call)
                if batch:
                    await self._send(batch)
        finally:
            self._sender = None

    async def _send(self, batch: list[_Call]) -> None:
        try:
            replies = await self._execute(batch)
            await self._load_missing(batch, replies)
        except Exception as error:  # noqa: BLE001 - each caller gets it and raises it
            replies = [error] * len(batch)
        measures = self.signals.measures
        measures.store_batches.observe(len(batch))
        now = time.monotonic()
        for call, reply in zip(batch, replies, strict=True):
            if not isinstance(reply, Exception):
                durations = measures.store_calls
                duration = durations.get(call.operation) or durations[OTHER]
                duration.observe(now - call.began_at)
            if call.reply.done():
                continue
            if isinstance(reply, Exception):
                call.reply.set_exception(_as_ours(reply))
            else:
                call.reply.set_result(reply)

    async def _execute(self, batch: list[_Call]) -> list[RawReply]:
        pipe = self._client.pipeline(transaction=False)
        for call in batch:
            pipe.execute_command(*call.words)
        return await pipe.execute(raise_on_error=False)

    async def _load_missing(self, batch: list[_Call], replies: list[RawReply]) -> None:
        """Load the scripts that the server does not know, and send their calls again."""
        missing = [
            n for n, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)
        ]
        if not missing:
            return
        for source in {batch[n].source for n in missing}:
            await self._client.script_load(source)
        again = await self._execute([batch[n] for n in missing])
        for n, reply in zip(missing, again, strict=True):
            replies[n] = reply


def _time_out(reply: asyncio.Future[RawReply], timeout: float) -> None:
    if not reply.done():
        reply.set_exception(StoreUnavailable(f"no reply in {timeout:g} s"))


def _as_ours(error: Exception) -> Exception:
    """Return StoreUnavailable for a store that cannot serve now. redis-py cuts known codes off."""
    match error:
        case redis_errors.OutOfMemoryError() | redis_errors.ReadOnlyError():
            return StoreUnavailable(str(error))
        case redis_errors.BusyLoadingError() | redis_errors.ClusterDownError():
            return StoreUnavailable(str(error))
        case redis_errors.ResponseError():
            return failure(str(error))
        case redis_errors.RedisError() | OSError():
            return StoreUnavailable(f"{type(error).__name__}: {error}")
        case _:
            return error
