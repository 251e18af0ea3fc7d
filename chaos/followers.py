"""Streams, while the store's clock goes back, or its data is lost or replaced by an older copy.

Nothing may be missing silently: a stream that is open, and one that is resumed, on the same node or
on another, brings every event that followed, or a ``reset``.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import ClientSession

from chaos.clocks import SettableClock
from chaos.fleet import Fleet, fleet
from chaos.stores import OneServer, SentinelGroup, Store, one_server, sentinel_group
from chaos.trials import Row, now
from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.sse import EVENTS, Source, follow
from tests.support.waiting import wait_until

S = TypeVar("S", bound=Store)

_SECONDS = 15.0  # for events or a reset to come; they take tenths of a second
_CREATED = 20  # sessions, in as many shards about

_ALL = ("open", "an event", "a position")  # streams that are reset if the data is another
_SEEN = ("open", "an event")  # those that have seen what an older copy does not have

StoreFault = Callable[[S], Awaitable[object]]  # does something, and returns when it serves again


class Follower:
    """A client of a stream: the sessions it was told of, and how often it was reset."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
        self.seen: set[str] = set()
        self.resets = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(Exception):
            while told := await self.source.next(3600):
                if told.name == "reset":
                    self.resets += 1
                else:
                    self.seen.add(told.subject)

    async def lacks(self, sessions: list[str]) -> set[str]:
        """Wait until it has heard of sessions or was reset; the sessions it was not told of."""
        give_up = now() + _SECONDS
        while not (self.resets or self.seen.issuperset(sessions)) and now() < give_up:  # noqa: ASYNC110 - it has a bound
            await asyncio.sleep(0.02)
        return set() if self.resets else set(sessions) - self.seen

    async def close(self) -> str:
        """Go away; the id from which to go on."""
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        self.source.answer.close()
        return self.source.last_id


class Followers:
    """Clients of two nodes on one store."""

    def __init__(self, nodes: Fleet, clients: list[ClientSession]) -> None:
        self._nodes = nodes
        self._clients = clients
        self._names = ("one node", "another node")
        self.told = self.resets = 0
        self.problems: list[str] = []

    async def follow(self, name: str, last_id: str = "", client: int = 0) -> Follower:
        """Open a stream of everything."""
        return Follower(name, await follow(self._clients[client], EVENTS, last_id))

    async def create(self) -> list[str]:
        """Create sessions by both nodes, again while the store is away."""
        return list(await asyncio.gather(*(self._create(n % 2) for n in range(_CREATED))))

    async def _create(self, client: int) -> str:
        body = session_body()

        async def created() -> Any:
            async with self._clients[client].post(SESSIONS, json=body) as answer:
                return (await answer.json()).get("sessionId")

        return str(await wait_until(created, _SECONDS, every=0.05))

    async def check(self, follower: Follower, sessions: list[str], *, reset: bool) -> None:
        """Note a follower that lacks sessions silently, or a reset that is due; close it."""
        if lacking := await follower.lacks(sessions):
            self.problems.append(
                f"{follower.name}: {len(lacking)} of {len(sessions)} events are missing silently"
            )
        if reset and not follower.resets:
            self.problems.append(f"{follower.name}: was not told that the data has changed")
        self.told += len(follower.seen & set(sessions))
        self.resets += follower.resets
        await follower.close()

    async def go_through(self, store: S, fault: StoreFault[S], reset: Sequence[str] = ()) -> None:
        """Have streams open, and resume others, before and after a fault.

        ``reset`` are those to which a fault is due to be told: ``open``, or what is resumed from.
        """
        await self.create()
        if isinstance(store, OneServer):
            store.node.back_up()
        opened = [await self.follow(f"open on {self._names[n]}", client=n) for n in (0, 1)]
        leaving = await self.follow("leaving")
        later = await self.create()
        for follower in (*opened, leaving):
            if lacking := await follower.lacks(later):
                self.problems.append(f"{follower.name}: {len(lacking)} missing before the fault")
            follower.resets = 0
        quiet = await self.follow("quiet")  # it has a position and no event
        await wait_until(lambda: quiet.source.last_id)
        left_at = {"an event": await leaving.close(), "a position": await quiet.close()}
        await fault(store)
        sessions = await self.create()
        for follower in opened:
            await self.check(follower, sessions, reset="open" in reset)
        between = await self.follow("between")
        await wait_until(lambda: between.source.last_id)
        left_at["a position after the fault"] = await between.close()
        more = await self.create()
        for what, last_id in left_at.items():
            missed = more if "after" in what else sessions + more
            for n in (0, 1):
                name = f"resumed from {what} on {self._names[n]}"
                await self.check(await self.follow(name, last_id, n), missed, reset=what in reset)


@asynccontextmanager
async def followers(store: Store) -> AsyncIterator[Followers]:
    """Two nodes on a store, and clients of them."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        nodes = await stack.enter_async_context(fleet(folder, store.url, 2))
        clients = [await stack.enter_async_context(node.client()) for node in nodes.nodes]
        yield Followers(nodes, clients)
        if defects := nodes.defects():
            raise AssertionError("\n".join(["defects in the log:", *defects[:5]]))


async def _row(
    repeats: int,
    what: str,
    fault: StoreFault[S],
    start: Callable[[Path], AbstractAsyncContextManager[S]],
    reset: Sequence[str] = (),
) -> Row:
    problems: list[str] = []
    told = resets = 0
    for n in range(repeats):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            async with start(Path(folder)) as store, followers(store) as all_of:
                await all_of.go_through(store, fault, reset)
                problems += [f"repeat {n + 1}: {problem}" for problem in all_of.problems]
                told, resets = told + all_of.told, resets + all_of.resets
    return Row(
        f"streams while {what}",
        repeats,
        f"{told:,} events told, {resets:,} resets, {len(problems)} problems",
        "open and resumed streams, on two nodes: every event or a reset",
        problems,
    )


async def clock_back(repeats: int, seconds: float) -> Row:
    """The store's clock is set back under it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        clock = SettableClock(Path(folder))

        async def set_back(store: OneServer) -> None:
            await clock.step(store.node, -seconds)

        what = f"the store's clock goes back by {seconds:g} s"
        return await _row(repeats, what, set_back, partial(one_server, clock=clock))


async def replica_behind(repeats: int, seconds: float) -> Row:
    """The master is killed, and the clock of the replica that takes its place is behind."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        clock = SettableClock(Path(folder))
        clock.set(-seconds)

        async def lose_master(store: SentinelGroup) -> None:
            master = await store.master()
            master.kill()
            await wait_until(partial(store.is_replaced, master), _SECONDS, every=0.05)

        what = f"a replica is promoted whose clock is {seconds:g} s behind"
        return await _row(repeats, what, lose_master, partial(sentinel_group, replica_clock=clock))


async def _flush(store: OneServer) -> None:
    await store.node.do("FLUSHALL")


async def flushed(repeats: int) -> Row:
    """All data is removed."""
    return await _row(repeats, "all data is removed (FLUSHALL)", _flush, one_server, _ALL)


async def swapped(repeats: int) -> Row:
    """Another database takes the place of ours, and ours comes back with what it had."""

    async def swap(store: OneServer) -> None:
        await store.node.do("SWAPDB", 0, 1)
        await asyncio.sleep(1)  # for the nodes to begin the new one
        await store.node.do("SWAPDB", 0, 1)

    return await _row(repeats, "databases are swapped, twice (SWAPDB)", swap, one_server, _ALL)


async def started_empty(repeats: int) -> Row:
    """The server starts again without its files."""

    async def start_empty(store: OneServer) -> None:
        store.node.kill()
        store.node.forget()
        await store.node.start()

    return await _row(repeats, "the store starts again with no data", start_empty, one_server, _ALL)


async def started_old(repeats: int) -> Row:
    """The server starts again with an older copy of its files."""

    async def start_old(store: OneServer) -> None:
        store.node.kill()
        store.node.forget(keep_copy=True)
        await store.node.start()

    return await _row(
        repeats, "the store starts again with an older copy", start_old, one_server, _SEEN
    )
