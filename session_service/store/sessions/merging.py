"""Merges the listings of a user's sessions with several agents: the newest first.

Each of them is sorted by the end of its members, the age and the id of the session.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from session_service.store.records import ID_LENGTH

_AGE_BYTES = 6
_LEAST = 16  # items that one batch has at least, if there are as many

T = TypeVar("T")


def age_and_id(member: bytes) -> bytes:
    """Return the end of a member of a listing, by which the sessions of a user are sorted."""
    return member[-ID_LENGTH - _AGE_BYTES :]


def batch_size(missing: int, parts: int) -> int:
    """Return how many items to read of each part at a time, if ``missing`` are needed in all."""
    return min(missing, max(_LEAST, -(-2 * missing // parts)))


async def take_merged(
    reads: Sequence[Callable[[], Awaitable[Sequence[T]]]],
    order: Callable[[T], bytes],
    take: Callable[[T], bool],
) -> None:
    """Give the items of sorted parts to ``take``, in one order, until it returns False.

    Each of ``reads`` returns the next batch of a part, which is empty after the last one. It is
    called only if the items before are taken.
    """
    ahead: dict[int, deque[T]] = {n: deque() for n in range(len(reads))}
    while ahead:
        empty = [n for n, items in ahead.items() if not items]
        batches = await asyncio.gather(*(reads[n]() for n in empty))
        for n, batch in zip(empty, batches, strict=True):
            if batch:
                ahead[n].extend(batch)
            else:
                del ahead[n]
        while ahead and all(ahead.values()):
            first = min(ahead.values(), key=lambda items: order(items[0]))
            if not take(first.popleft()):
                return
