"""The limit of addresses: RATE_LIMIT_ADDRESS, which each process applies by itself."""

import time
from collections.abc import Callable

from session_service.domain.budgets import LIMITED_ADDRESSES
from session_service.domain.rates import RateLimit, Standing, take
from session_service.web.http.client_addresses import group_of


class AddressLimit:
    """The buckets of addresses, of an IPv6 address that of its /64.

    There are at most LIMITED_ADDRESSES: then the one that was used the longest ago is forgotten.
    ``clock`` returns microseconds.
    """

    def __init__(
        self, limit: RateLimit, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._full_at: dict[str, int] = {}  # by group, the longest unused first

    @property
    def size(self) -> int:
        """How many addresses have a bucket."""
        return len(self._full_at)

    def charge(self, address: str) -> Standing:
        """Take a request of an address; return what is left of its limit, also if that is none."""
        group = group_of(address)
        buckets = self._full_at
        now = self._clock()
        taken = take(self.limit, buckets.pop(group, now), now)
        if len(buckets) >= LIMITED_ADDRESSES:
            del buckets[next(iter(buckets))]
        buckets[group] = taken.full_at
        return Standing("address", self.limit, taken.left, taken.wait, bool(taken.granted))
