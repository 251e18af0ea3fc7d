"""Transfers that wait for their client: a body that it has not sent, or a response not read.

A client that stalls is cut off. If all transfers together hold more memory than their budget, the
oldest are cut off until the others fit: a client that is slow on purpose then neither fills memory
nor keeps others from being served (docs/decisions/0010-the-oldest-makes-room.md).
"""

import asyncio
from collections import deque
from typing import Protocol

TICK_SECONDS = 1.0
_CUTS_A_TURN = 4  # transfers cut off in one turn of the event loop; each takes about 0.1 ms
_PAUSE_SECONDS = 0.005  # between such turns: 800 transfers a second


class Transfer(Protocol):
    """A transfer that waits for its client, e.g. a body that is arriving."""

    def held(self) -> int:
        """Return the bytes of memory that it holds now."""

    def is_stalled(self, now: float) -> bool:
        """Return whether its client is too slow; ``now`` is the event loop's time."""

    def cut(self) -> None:
        """End the transfer, without waiting for the client."""


class Transfers:
    """The transfers in progress, which hold ``budget`` bytes at most; one alone may exceed it.

    A process has two: ``admission.bodies`` and ``admission.unread``.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: dict[Transfer, int] = {}  # bytes, oldest first
        self._total = 0
        self._stalled: deque[Transfer] = deque()  # those to be cut off
        self._tick: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, transfer: Transfer) -> None:
        """Watch a transfer until ``end``."""
        self._set(transfer, transfer.held())
        self._make_room()
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._check)

    def end(self, transfer: Transfer) -> None:
        """Stop watching a transfer; it may have been cut off already."""
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

    def _check(self) -> None:
        """Find stalled transfers, and check again every TICK_SECONDS until none is left."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for transfer in self._held:
            self._set(transfer, transfer.held())
        self._make_room()
        is_cutting = bool(self._stalled)
        self._stalled = deque(each for each in self._held if each.is_stalled(now))
        if not is_cutting:
            self._cut_off()
        self._tick = loop.call_later(TICK_SECONDS, self._check) if self._held else None

    def _cut_off(self) -> None:
        """Cut off a few stalled transfers a turn: thousands at once would delay other clients."""
        for _ in range(min(_CUTS_A_TURN, len(self._stalled))):
            transfer = self._stalled.popleft()
            if transfer in self._held:
                self._cut(transfer)
        if self._stalled:
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._cut_off)
