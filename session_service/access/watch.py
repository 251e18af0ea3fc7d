"""Watches the credentials of open connections, which end with them (access, "Policy")."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Protocol

from session_service.domain.credentials import Credential
from session_service.domain.errors import StoreUnavailable

_CHECK_SECONDS = 1.0  # so a connection ends within 3 s of the revocation of its key

# Called once, with whether the credential has ended. False means that nobody can tell any more.
End = Callable[[bool], None]


class Validity(Protocol):
    """Tells whether credentials are still valid."""

    def is_valid(self, credential: Credential, now: int) -> bool:
        """Return whether a credential is valid at ``now`` (epoch ms). Raises StoreUnavailable."""


class Watch:
    """Calls a function of each open stream and socket when its credential ends.

    That is when it expires, or at most a second after its revocation is known here. A check costs
    less than 1 us for each credential, and there is none while nothing is open.
    """

    def __init__(self, validity: Validity) -> None:
        self._validity = validity
        self._ends: dict[Credential, dict[End, None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def ending(self, credential: Credential, end: End) -> Iterator[None]:
        """Call ``end`` if the credential ends within the block."""
        self.add(credential, end)
        try:
            yield
        finally:
            self.discard(credential, end)

    def add(self, credential: Credential, end: End) -> None:
        """Call ``end`` once the credential has ended."""
        self._ends.setdefault(credential, {})[end] = None
        seconds = _CHECK_SECONDS
        if credential.expires is not None:
            seconds = min(seconds, max(0, credential.expires - _now()) / 1000)
        if self._timer is None or self._timer.when() > asyncio.get_running_loop().time() + seconds:
            self._check_in(seconds)

    def discard(self, credential: Credential, end: End) -> None:
        """Forget what was added; nothing happens if that has ended."""
        ends = self._ends.get(credential)
        if ends is not None:
            ends.pop(end, None)
            if not ends:
                del self._ends[credential]

    def _check_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        now = _now()
        try:
            for credential, has_ended in self._ended(now):
                for end in list(self._ends.get(credential, ())):
                    self.discard(credential, end)
                    end(has_ended)
        finally:
            if self._ends:
                expiries = (each.expires for each in self._ends if each.expires is not None)
                self._check_in(min(_CHECK_SECONDS, max(0, min(expiries, default=inf) - now) / 1000))

    def _ended(self, now: int) -> list[tuple[Credential, bool]]:
        """Return the credentials that are not valid any more, and whether that is certain."""
        is_valid, ended = self._validity.is_valid, []
        for credential in self._ends:
            try:
                if not is_valid(credential, now):
                    ended.append((credential, True))
            except StoreUnavailable:
                ended.append((credential, False))
        return ended


def _now() -> int:
    return time.time_ns() // 1_000_000
