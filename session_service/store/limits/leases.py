"""The limit of API keys: a node leases requests from a key's bucket in advance.

A lease has at most 1 % of the limit. So most requests cost no round trip: the node leases more in
the background once half of the lease is used up, and a request waits only if nothing is left. With
a limit under 100 each request waits for its own. A lease that is not used goes back after 1 % of
the time of the limit, or a tenth of a second; that of a node that dies is lost.

While the key is in use, its lease is renewed as often, so that the bucket always counts it: no node
serves a request that was taken from the bucket long ago.
"""

import asyncio
from collections import deque
from contextlib import suppress

from session_service.domain.errors import ServiceError
from session_service.domain.rates import SECOND, RateLimit, Standing
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.limits.failures import Failures, reason_of
from session_service.store.scripts.limits import TAKE, TakeArguments, Taking

_SHARE = 100  # of the limit that a lease has at most: 1 in 100
_SHORTEST_SECONDS = 0.1  # of a lease: with 1,000/1s, 1 % of the time would be 10 ms
_OPEN_SECONDS = 0.5  # without the limit, after the store failed


class KeyLimit:
    """The limit of every API key. ``failures`` counts the requests that are served without it."""

    def __init__(
        self, executor: ScriptExecutor, keys: Keys, limit: RateLimit, failures: Failures
    ) -> None:
        self.limit = limit
        self.failures = failures
        # Requests that a lease has in advance; of a small limit none: 1 % is less than one.
        self.size = limit.requests // _SHARE
        self.seconds = max(_SHORTEST_SECONDS, limit.seconds / _SHARE)
        self._executor = executor
        self._keys = keys
        self._leases: dict[str, _Lease] = {}  # by the id of the key; of keys that are in use

    async def charge(self, key_id: str) -> Standing | None:
        """Take a request from the key's bucket; return what is left, also if none was granted.

        It returns None if that is not known, because the store failed: the request is served.
        """
        lease = self._leases.get(key_id)
        if lease is None:
            lease = self._leases[key_id] = _Lease(self, key_id)
        return lease.use() if lease.left else await lease.wait()

    async def close(self) -> None:
        """Give all leases back."""
        await asyncio.gather(*(lease.give_back() for lease in list(self._leases.values())))

    async def take(self, key_id: str, returned: int, wanted: int) -> Taking:
        """Put requests back into a bucket, then take others; raises ServiceError."""
        keys = self._keys.bucket("key_bucket", key_id)
        arguments = TakeArguments(self.limit.requests, self.limit.seconds, returned, wanted)
        return await self._executor.run(TAKE, keys, arguments)

    def forget(self, key_id: str, lease: "_Lease") -> None:
        """Forget a lease that has ended."""
        if self._leases.get(key_id) is lease:
            del self._leases[key_id]


class _Lease:
    """The requests of one key that this node may serve. ``left`` is how many of them are unused."""

    def __init__(self, limit: KeyLimit, key_id: str) -> None:
        self.left = 0
        self._limit = limit
        self._key_id = key_id
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[Standing | None]] = deque()
        self._exchange: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.Task[None] | None = None
        self._is_used = False  # since the timer began
        self._others = 0  # requests in the bucket, at the last exchange
        self._more_at = 0.0  # when the bucket has one more; until then an empty one stays empty
        self._open_until = 0.0

    def use(self) -> Standing:
        """Serve a request from the lease, of which there is one left."""
        self.left -= 1
        self._is_used = True
        if self.left <= self._limit.size // 2 and self._exchange is None and self._others:
            self._begin_exchange()
        return self._standing()

    async def wait(self) -> Standing | None:
        """Wait until the store grants or refuses a request."""
        now = self._loop.time()
        if now < self._open_until:
            self._limit.failures.add("the store failed shortly before")
            return None
        if not self._others and now < self._more_at:
            return self._refused()
        self._is_used = True
        waiter: asyncio.Future[Standing | None] = self._loop.create_future()
        self._waiting.append(waiter)
        self._begin_exchange()
        return await waiter

    async def give_back(self) -> None:
        """Put what is left back into the bucket, and end the lease."""
        self._limit.forget(self._key_id, self)
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            await asyncio.wait((self._exchange,))
        returned, self.left = self.left, 0
        if returned:
            with suppress(ServiceError):  # then it is lost
                await self._limit.take(self._key_id, returned, 0)

    def _begin_exchange(self) -> None:
        if self._exchange is None:
            self._exchange = self._loop.create_task(self._exchange_lease(), name="limit lease")

    async def _exchange_lease(self) -> None:
        """Put the lease back and take a new one, until nobody waits.

        The requests that are served meanwhile are of the new lease: it has at least as many as the
        one before, because these were just put back.
        """
        reason = "a defect"
        try:
            while True:
                before = self.left
                wanted = max(before, self._limit.size) + len(self._waiting)
                taking = await self._limit.take(self._key_id, before, wanted)
                self._adopt(taking, used=before - self.left)
                if not self._waiting:
                    return
        except ServiceError as error:
            reason = reason_of(error)
        finally:
            self._exchange = None
            self._start_timer()
            if self._waiting:
                self._open_until = self._loop.time() + _OPEN_SECONDS
            while self._waiting:
                self._limit.failures.add(reason)
                self._answer(None)

    def _adopt(self, taking: Taking, used: int) -> None:
        limit = self._limit
        if taking.failed:
            limit.failures.add("a bucket was damaged, or cannot be written")
        self.left = max(0, taking.granted - used)
        self._others = taking.left
        self._more_at = self._loop.time() + taking.wait / SECOND
        while self._waiting and self.left:
            if not self._waiting[0].done():
                self.left -= 1
            self._answer(self._standing())
        while self._waiting and not self._others:
            self._answer(self._refused())

    def _answer(self, answer: Standing | None) -> None:
        """Answer the first request that waits, unless its caller was cancelled."""
        waiter = self._waiting.popleft()
        if not waiter.done():
            waiter.set_result(answer)

    def _refused(self) -> Standing:
        return self._standing()._replace(is_granted=False)

    def _standing(self) -> Standing:
        wait = max(0, round((self._more_at - self._loop.time()) * SECOND))
        left = min(self.left + self._others, self._limit.limit.requests)
        return Standing("key", self._limit.limit, left, wait)

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_used = False
        self._timer = self._loop.call_later(self._limit.seconds, self._time_out)

    def _time_out(self) -> None:
        """Renew the lease if it was used, otherwise give it back."""
        if self._exchange is not None:
            return
        if self._is_used and self.left:
            self._begin_exchange()
        else:
            self._end = self._loop.create_task(self.give_back(), name="limit lease return")
