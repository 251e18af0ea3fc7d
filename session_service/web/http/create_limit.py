"""Limits the sessions that pages create from one address: SESSION_CREATE_LIMIT_ADDRESS.

A page that creates a session whenever it does not find its own can loop, and did: one tab created
124,682 sessions in three minutes. The limit stops such accidents. It is no defence against an
attacker, whose requests need not look like a browser's.
"""

import math
import time
from collections.abc import Callable

from aiohttp import web

from session_service.domain.budgets import (
    CREATE_ADDRESSES,
    CREATE_LIMIT,
    CREATE_SECONDS,
    FORWARDED_CHARACTERS,
)
from session_service.domain.errors import RateLimited
from session_service.web.http.browsers import ORIGIN, SEC_FETCH_SITE
from session_service.web.http.client_addresses import FORWARDED_FOR, TrustedProxies

PageAddress = tuple[str, str]  # the connection's, and the text of X-Forwarded-For


class CreateLimit:
    """Counts the sessions that pages create, by address, in windows of CREATE_SECONDS.

    An address is the connection's, together with the text of ``X-Forwarded-For``, e.g.
    ``203.0.113.9, 10.0.0.2``. That is not verified: forging it gains nothing. A ``limit`` of 0 is
    no limit. If there are more than CREATE_ADDRESSES addresses, the count of
    the oldest is lost. With ``proxies`` an address is the client's, as they name it.
    """

    def __init__(
        self,
        limit: int = CREATE_LIMIT,
        clock: Callable[[], float] = time.monotonic,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.limit = limit
        self._proxies = proxies
        self._clock = clock
        self._windows: dict[PageAddress, tuple[float, int]] = {}  # its start, and its count

    def page_of(self, request: web.BaseRequest) -> PageAddress | None:
        """Return the address of the page that makes a request, or None if no page does.

        Pages send Origin or Sec-Fetch-Site. Sec-Fetch-Mode proves nothing: Node's fetch sends it.
        """
        headers = request.headers
        if not self.limit or (ORIGIN not in headers and SEC_FETCH_SITE not in headers):
            return None
        if self._proxies:
            return self._proxies.client_address(request), ""
        return request.remote or "", headers.get(FORWARDED_FOR, "")[:FORWARDED_CHARACTERS]

    def count(self, address: PageAddress) -> None:
        """Count a creation by a page; raises RateLimited."""
        now = self._clock()
        start, count = self._windows.get(address, (now, 0))
        if now >= start + CREATE_SECONDS:
            start, count = now, 0
        if count >= self.limit:
            raise RateLimited(
                f"Pages at one address may create {self.limit} sessions in {CREATE_SECONDS:g}"
                " seconds (setting SESSION_CREATE_LIMIT_ADDRESS). A page should keep the id of its"
                " session, and wait before it tries again.",
                math.ceil(start + CREATE_SECONDS - now),
            )
        if count == 0:  # a new window goes to the end, so that the first is the oldest
            self._windows.pop(address, None)
            if len(self._windows) >= CREATE_ADDRESSES:
                del self._windows[next(iter(self._windows))]
        self._windows[address] = (start, count + 1)

    def uncount(self, address: PageAddress) -> None:
        """Take back a count: the session existed."""
        start, count = self._windows.get(address, (0.0, 0))
        if count:
            self._windows[address] = (start, count - 1)
