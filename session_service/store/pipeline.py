"""Many callers, one round trip.

What is asked for while a batch is under way waits and travels as the next batch, so the more
callers there are, the fewer the round trips. A caller that gives up disturbs neither the connection
nor another's reply: it only stops waiting for its own.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from session_service.domain.errors import StoreUnavailable
from session_service.store.scripts import Script

MAX_BATCH = 512  # commands; a batch of 512 keeps Redis busy for about 5 ms

Argument = bytes | str | int
Arguments = Sequence[Argument]
Keys = Sequence[bytes]
_T = TypeVar("_T")

# What these say passes; anything else that the server answers is a defect of ours.
_PASSING = (
    redis_errors.BusyLoadingError,
    redis_errors.ClusterDownError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.TryAgainError,
)
_PASSING_CODES = ("BUSY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "UNBLOCKED")


class _Call(NamedTuple):
    script: Script
    arguments: Sequence[Argument]
    reply: asyncio.Future[Any]


class Pipeline:
    """Runs scripts, those of one moment together.

    ``timeout``, in seconds, is what a caller waits at most, for its turn and its reply together.
    """

    def __init__(self, client: Redis, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._waiting: deque[_Call] = deque()
        self._courier: asyncio.Task[None] | None = None

    async def run(self, script: Script, keys: Keys, arguments: Arguments) -> Any:
        """Run a script and return its reply.

        Raises StoreUnavailable where the store did not answer in time or cannot serve now; a
        command may have taken effect then, and is never sent twice.
        """
        return await self._within_timeout(self._ask(script, keys, arguments))

    async def run_all(self, script: Script, calls: Iterable[tuple[Keys, Arguments]]) -> list[Any]:
        """Run a script with each of the keys and arguments and return the replies.

        Raises as ``run``, for the first call that failed; the others may have taken effect.
        """
        return await self._within_timeout(
            asyncio.gather(*(self._ask(script, keys, arguments) for keys, arguments in calls))
        )

    async def ping(self) -> None:
        """Return if the store answers; raises StoreUnavailable."""
        try:
            await self._within_timeout(self._client.ping())
        except (redis_errors.RedisError, OSError) as error:
            raise _as_ours(error) from error

    def _ask(self, script: Script, keys: Keys, arguments: Arguments) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        call = _Call(script, (script.sha, len(keys), *keys, *arguments), loop.create_future())
        self._waiting.append(call)
        if self._courier is None:
            self._courier = loop.create_task(self._carry(), name="store-pipeline")
        return call.reply

    async def _within_timeout(self, reply: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._timeout):
                return await reply
        except TimeoutError:
            raise StoreUnavailable(f"no reply in {self._timeout:g} s") from None

    async def _carry(self) -> None:
        try:
            while self._waiting:
                batch: list[_Call] = []
                while self._waiting and len(batch) < MAX_BATCH:
                    call = self._waiting.popleft()
                    if not call.reply.done():  # else its caller has given up
                        batch.append(call)
                if batch:
                    await self._send(batch)
        finally:
            self._courier = None

    async def _send(self, batch: list[_Call]) -> None:
        try:
            replies = await self._execute(batch)
            await self._load_missing(batch, replies)
        except Exception as error:  # noqa: BLE001 - each caller gets it and raises it
            replies = [error] * len(batch)
        for call, reply in zip(batch, replies, strict=True):
            if call.reply.done():
                continue
            if isinstance(reply, Exception):
                call.reply.set_exception(_as_ours(reply))
            else:
                call.reply.set_result(reply)

    async def _execute(self, batch: Sequence[_Call]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for call in batch:
            pipe.execute_command("EVALSHA", *call.arguments)
        return await pipe.execute(raise_on_error=False)

    async def _load_missing(self, batch: list[_Call], replies: list[Any]) -> None:
        """Load the scripts that the server does not know, and send their calls again."""
        missing = [
            n for n, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)
        ]
        if not missing:
            return
        for source in {batch[n].script.source for n in missing}:
            await self._client.script_load(source)
        again = await self._execute([batch[n] for n in missing])
        for n, reply in zip(missing, again, strict=True):
            replies[n] = reply

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        if self._courier is not None:
            await asyncio.wait([self._courier], timeout=self._timeout)
        await self._client.aclose()


def _as_ours(error: Exception) -> Exception:
    """Tell a store that cannot serve now from a defect."""
    is_defect = (
        isinstance(error, redis_errors.ResponseError)
        and not isinstance(error, _PASSING)
        and not str(error).startswith(_PASSING_CODES)
    ) or not isinstance(error, redis_errors.RedisError | OSError)
    return error if is_defect else StoreUnavailable(f"{type(error).__name__}: {error}")
