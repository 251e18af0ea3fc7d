"""``Transfers``: which of them are cut off, and when."""

import asyncio

import pytest

from session_service.web.http import transfers
from session_service.web.http.transfers import Transfers
from tests.support.waiting import wait_until


class Item:
    """A transfer that holds a number of bytes."""

    def __init__(self, size: int, *, stalls: bool = False) -> None:
        self.size = size
        self.stalls = stalls
        self.is_cut = False

    def held(self) -> int:
        return self.size

    def is_stalled(self, now: float) -> bool:  # noqa: ARG002 - as others have it
        return self.stalls

    def cut(self) -> None:
        self.is_cut = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "TICK_SECONDS", 0.01)


async def test_the_oldest_are_cut_until_the_others_fit() -> None:
    """The oldest transfers are cut until the rest fits; ended ones do not count."""
    found = Transfers(100)
    items = [Item(40) for _ in range(4)]
    found.begin(items[0])
    found.begin(items[1])
    found.end(items[0])
    found.begin(items[2])
    assert [item.is_cut for item in items[:3]] == [False, False, False]
    found.begin(items[3])
    assert [item.is_cut for item in items] == [False, True, False, False]


async def test_one_that_is_larger_than_the_budget_is_let_be() -> None:
    """One transfer alone may exceed the budget, until the next one comes."""
    found = Transfers(100)
    large, small = Item(1000), Item(1)
    found.begin(large)
    assert not large.is_cut
    found.begin(small)
    assert (large.is_cut, small.is_cut, len(found)) == (True, False, 1)


async def test_one_that_grows_makes_others_go() -> None:
    """A transfer that grows makes others be cut."""
    found = Transfers(100)
    items = [Item(10) for _ in range(3)]
    for item in items:
        found.begin(item)
    items[2].size = 95
    await wait_until(lambda: len(found) == 1)
    assert [item.is_cut for item in items] == [True, True, False]


async def test_thousands_that_stall_are_cut_a_few_at_a_time() -> None:
    """Thousands of stalled transfers are cut a few per turn of the event loop."""
    found = Transfers(1_000_000)
    items = [Item(1, stalls=bool(n % 4)) for n in range(400)]
    for item in items:
        found.begin(item)
    most = before = 0
    while before < 300:
        await asyncio.sleep(0)
        count = sum(item.is_cut for item in items)
        most, before = max(most, count - before), count
    assert most <= 2 * transfers._CUTS_A_TURN  # noqa: SLF001
    assert [item.is_cut for item in items] == [item.stalls for item in items]
