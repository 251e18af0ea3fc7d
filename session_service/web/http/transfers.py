"""Transfers that wait for their client: a body it has not sent, or a response it has not read.

A client that stalls is cut off. If all transfers together hold more than their budget, those that
began first are cut off, until the others fit: a client that is slow on purpose keeps others from
being served no more than it keeps memory (docs/decisions/0010-the-oldest-makes-room.md).
"""

import asyncio
from collections import deque
from typing import Protocol

TICK_SECONDS = 1.0
_TOGETHER = 4  # that are cut off in one turn of the event loop; each takes about 0.1 ms
_PAUSE_SECONDS = 0.005  # until the next ones: 800 a second


class Transfer(Protocol):
    """Something that goes on only when its client does."""

    def held(self) -> int:
        """Return how many bytes of memory it takes now."""

    def is_stalled(self, now: float) -> bool:
        """Whether its client is too slow; ``now`` is the event loop's time."""

    def cut(self) -> None:
        """End it, whatever the client does."""


class Transfers:
    """The transfers under way. They may hold ``budget`` bytes, but one alone may hold more."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: dict[Transfer, int] = {}  # bytes, oldest first
        self._total = 0
        self._stalled: deque[Transfer] = deque()  # of these, to be cut off
        self._tick: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, transfer: Transfer) -> None:
        """Watch a transfer until ``end``."""
        self._set(transfer, transfer.held())
        self._make_room()
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look)

    def end(self, transfer: Transfer) -> None:
        """Watch a transfer no longer; it may have been cut off already."""
        self._total -= self._held.pop(transfer, 0)

    def _set(self, transfer: Transfer, held: int) -> None:
        self._total += held - self._held.get(transfer, 0)
        self._held[transfer] = held

    def _make_room(self) -> None:
        while self._total > self._budget and len(self._held) > 1:
            self._cut(next(iter(self._held)))

    def _cut(self, transfer: Transfer) -> None:
        self.end(transfer)
        transfer.cut()

    def _look(self) -> None:
        """Find what has stalled, and look again as long as there is anything."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for transfer in self._held:
            self._set(transfer, transfer.held())
        self._make_room()
        is_cutting = bool(self._stalled)
        self._stalled = deque(each for each in self._held if each.is_stalled(now))
        if not is_cutting:
            self._cut_off()
        self._tick = loop.call_later(TICK_SECONDS, self._look) if self._held else None

    def _cut_off(self) -> None:
        """Cut off a few in each turn of the event loop: thousands would keep others waiting."""
        for _ in range(min(_TOGETHER, len(self._stalled))):
            transfer = self._stalled.popleft()
            if transfer in self._held:
                self._cut(transfer)
        if self._stalled:
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._cut_off)
