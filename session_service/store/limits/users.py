"""The limit of users: a bucket for each, in the user's shard, next to all of the user's sessions.

The first script of a request takes one from the bucket in the same step and round trip, so the
limit is exact across all nodes. If that script cannot have the bucket among its keys, the bucket
comes first, in a script of its own: in a cluster, that is if the keys are in another shard.
"""

import asyncio
from typing import Any

from session_service.domain.errors import ServiceError
from session_service.domain.rates import RateLimit, Standing
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, R, Script
from session_service.store.keys import Keys
from session_service.store.limits.failures import Failures, reason_of
from session_service.store.scripts.limits import TAKE, TakeArguments, Taking
from session_service.store.scripts.variants import charging

_BUCKET_UNUSABLE = "a bucket was damaged, or could not be written"


class UserLimit:
    """The limit of every user. ``failures`` counts the requests that are served without it."""

    def __init__(self, keys: Keys, limit: RateLimit, failures: Failures) -> None:
        self.limit = limit
        self.failures = failures
        self._keys = keys

    def charging(self, executor: ScriptExecutor, user_id: str) -> "ChargingExecutor":
        """Return the executor for one request of a user."""
        return ChargingExecutor(executor, self, self._keys.bucket("user_bucket", user_id))


class ChargingExecutor(ScriptExecutor):
    """Runs the scripts of one request of a user, and takes the request from the user's bucket once.

    The first script does so, and the others wait for that. All raise RateLimited, and do nothing,
    if the bucket is empty. ``standing`` is what is left, or None if that is not known.
    """

    def __init__(self, executor: ScriptExecutor, limit: UserLimit, bucket: KeySet) -> None:
        self.spans_shards = executor.spans_shards
        self.signals = executor.signals
        self.standing: Standing | None = None
        self._executor = executor
        self._limit = limit
        self._bucket = bucket
        self._charged: asyncio.Future[None] | None = None  # done when the result is known

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Send a script: the first one with the charge, the others after it."""
        loop = asyncio.get_running_loop()
        if self._charged is None and self._can_charge(script, keys):
            charged = self._charged = loop.create_future()
            variant = charging(script, self._limit.limit)
            reply = self._executor.submit(variant, keys.and_those(self._bucket), arguments)
            return loop.create_task(self._own_reply(reply, charged))
        if self._charged is not None and self._charged.done():
            self._check()
            return self._executor.submit(script, keys, arguments)
        return loop.create_task(self._submit_later(script, keys, arguments))

    async def settle(self) -> None:
        """Take the request from the bucket if no script has done so; raises RateLimited."""
        if self._charged is None:
            self._charged = asyncio.get_running_loop().create_task(self._take())
        if not self._charged.done():
            await asyncio.wait((self._charged,))
        self._check()

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on each master; they are not charged."""
        return await self._executor.run_on_masters(*commands)

    async def close(self) -> None:
        """Do nothing: other requests use the executor below."""

    def _can_charge(self, script: Script[Any, Any], keys: KeySet) -> bool:
        """Return whether a call of a script can have the bucket among its keys."""
        is_near = self.spans_shards or keys.shard == self._bucket.shard
        return is_near and not (script.many_shards or script.has_rest)

    async def _own_reply(
        self, reply: asyncio.Future[RawReply], charged: asyncio.Future[None]
    ) -> RawReply:
        """Return the reply of a script itself from that of lua/limits/charge.lua."""
        try:
            *taken, own = await reply
            self._note(Taking(*taken))
        finally:
            charged.set_result(None)
        self._check()
        return own

    async def _submit_later(self, script: Script[A, R], keys: KeySet, arguments: A) -> RawReply:
        await self.settle()
        return await self._executor.submit(script, keys, arguments)

    async def _take(self) -> None:
        limit = self._limit.limit
        arguments = TakeArguments(limit.requests, limit.seconds, returned=0, wanted=1)
        try:
            self._note(await self._executor.run(TAKE, self._bucket, arguments))
        except ServiceError as error:
            self._limit.failures.add(reason_of(error))

    def _note(self, taking: Taking) -> None:
        if taking.failed:
            self._limit.failures.add("a bucket was damaged, or cannot be written")
        limit, granted = self._limit.limit, bool(taking.granted)
        self.standing = Standing("user", limit, taking.left, taking.wait, granted)

    def _check(self) -> None:
        if self.standing is not None:
            self.standing.check()
