"""Runs Lua scripts on the store; calls of many callers share a round trip.

A caller that is cancelled affects neither the connection nor other callers: it only stops waiting
for its own reply. ``factory.py`` chooses the executor: ``StandaloneExecutor``,
``SentinelExecutor``, ``ClusterExecutor``, or ``FakeRedisExecutor`` for fakeredis.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable

from redis import exceptions as redis_errors

from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.metrics.measures import Measures
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, R, Script

# Codes of errors that pass, or that the operator has to solve. All others are defects of ours.
_UNAVAILABLE = {
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "WRONGPASS",
}
# Before Redis 7 the error of a script has its code inside.
_INNER_CODE = re.compile(r": -([A-Z]+)\b")
# Errors of a script's command without a code: of Redis 6.2 and 7.0; of 7.2 and later, and Valkey.
_NOT_PERMITTED = re.compile(r"The user executing the script|ACL failure in script")
_CLUSTER_DOWN = re.compile(r"[Ss]cript attempted to execute .* while the cluster is down")


def error_code(text: str) -> str:
    """Return the code of an error reply, e.g. ``OOM``, also if it is inside the error of a script.

    Redis 7 replies ``READONLY You can't write…``, Redis 6.2 to the same script ``ERR Error running
    script (call to f_…): @user_script:7: @user_script: 7: -READONLY You can't write…``.
    """
    if _NOT_PERMITTED.search(text):
        return "NOPERM"
    if _CLUSTER_DOWN.search(text):
        return "CLUSTERDOWN"
    inner = _INNER_CODE.search(text)
    return inner[1] if inner else text.partition(" ")[0]


def failure(text: str) -> Exception:
    """Return the exception for an error reply.

    That is StoreUnavailable, RecordUnreadable if a key is of the wrong type, or redis-py's
    ResponseError, which is a defect of the service.
    """
    if error_code(text) in _UNAVAILABLE:
        return StoreUnavailable(text)
    if "WRONGTYPE" in text:
        return RecordUnreadable(text)
    return redis_errors.ResponseError(text)


class Signals:
    """Events, counts and measures of the connections of an executor."""

    def __init__(
        self, measures: Measures | None = None, refused: Counter[str] | None = None
    ) -> None:
        self.measures = measures or Measures()
        self.connected = asyncio.Event()  # set when a connection is made; the waiter clears it
        # Calls, by the code of the error reply.
        self.refused: Counter[str] = Counter() if refused is None else refused


class ScriptExecutor(ABC):
    """Runs scripts; those submitted at the same time share a round trip."""

    spans_shards = True  # whether the keys of a call may be of several shards
    has_replayed = False  # whether a reply was that to an earlier request (Idempotency-Key)
    signals: Signals

    @abstractmethod
    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Send a script; return the future of the server's reply, which fails as ``run`` does."""

    async def run(self, script: Script[A, R], keys: KeySet, arguments: A) -> R:
        """Run a script, and return its reply as the script's ``reply`` reads it.

        For example ``await executor.run(END, keys, SessionArguments(60_000, session_id))``.
        Raises StoreUnavailable if the store does not answer in time or cannot serve now: the script
        may have taken effect then, and is never sent twice. Also raises as ``reply`` does.
        """
        return script.reply(await self.submit(script, keys, arguments))

    async def run_all(self, script: Script[A, R], calls: Iterable[tuple[KeySet, A]]) -> list[R]:
        """Run a script with each of the keys and arguments and return the replies.

        Raises as ``run``, for the first call that failed; the others may have taken effect.
        """
        replies = await asyncio.gather(*(self.submit(script, keys, args) for keys, args in calls))
        return [script.reply(reply) for reply in replies]

    @abstractmethod
    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on each master; return its replies by its name.

        The name is empty if there is one master at a time. An error is
        returned in place of a reply. Raises StoreUnavailable if the masters are not known. For
        example ``run_on_masters(("TIME",))`` returns ``{"": [[b"1767225600", b"0"]]}``.
        """

    async def ping(self) -> None:
        """Ping every master; raises StoreUnavailable unless all of them reply."""
        for replies in (await self.run_on_masters(("PING",))).values():
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

    @abstractmethod
    async def close(self) -> None:
        """Wait for the calls in flight, then close the connections."""
