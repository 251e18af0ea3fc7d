"""``ConnectionTable``: which connection makes room when the table is full."""

import asyncio

from session_service.web.http.connections import ConnectionTable


class Place:
    """A connection."""

    def __init__(self, idle_since: float | None) -> None:
        self.idle_since = idle_since
        self.is_open = True

    def force_close(self) -> None:
        self.is_open = False


async def test_busy_connections_stay() -> None:
    """A new connection is refused if all are busy."""
    table = ConnectionTable(2)
    busy = [Place(None) for _ in range(2)]
    assert [table.add(place) for place in (*busy, Place(1))] == [True, True, False]
    assert all(place.is_open for place in busy)
    table.discard(busy[0])
    assert table.add(Place(None))


async def test_one_that_was_used_since_the_last_look_stays() -> None:
    """A connection used since the last look stays, and the next one makes room."""
    table = ConnectionTable(3)
    first, second, third = (Place(n) for n in (1.0, 2.0, 3.0))
    for place in (first, second, third):
        assert table.add(place)
    assert table.add(Place(None))
    second.idle_since = 4.0
    assert table.add(Place(None))
    assert [place.is_open for place in (first, second, third)] == [False, True, False]


async def test_one_that_was_just_used_stays() -> None:
    """A connection stays during the grace time, as a request may be on its way."""
    now = asyncio.get_running_loop().time()
    table = ConnectionTable(2, grace=1000)
    long_idle, just_used = Place(now - 2000), Place(now - 1)
    assert table.add(long_idle)
    assert table.add(just_used)
    assert [table.add(Place(None)) for _ in range(2)] == [True, False]
    assert [long_idle.is_open, just_used.is_open] == [False, True]
