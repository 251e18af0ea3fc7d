"""Streams while the store's clock is set back, or its data is lost or replaced by an older copy.

No event may be missing silently: a stream that is open, and one that is resumed on the same node or
on another, delivers every later event or a ``reset``.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import ClientSession

from chaos.fleet import Fleet, fleet
from chaos.stores.base import SingleServer, Store, single_server
from chaos.stores.sentinel import SentinelGroup, sentinel_group
from chaos.stores.server import StoreServer
from chaos.trials import Row, now
from tests.support.api import SESSIONS
from tests.support.clocks import SettableClock
from tests.support.factories import session_body
from tests.support.sse import EVENTS, Source, follow
from tests.support.waiting import wait_until

S = TypeVar("S", bound=Store)

_SECONDS = 15.0  # bound for events or a reset to arrive; they take tenths of a second
_CREATED = 20  # sessions, in about as many shards

_ALL = ("open", "an event", "a position")  # streams that are reset if the data set changes
_SEEN = ("open", "an event")  # streams that have delivered an event that an older copy lacks

StoreFault = Callable[[S], Awaitable[object]]  # returns when the store serves again


class Follower:
    """A client of a stream: the sessions whose events it received, and its resets."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
        self.received: set[str] = set()
        self.resets = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(Exception):
            while event := await self.source.next(3600):
                if event.name == "reset":
                    self.resets += 1
                else:
                    self.received.add(event.subject)

    async def missing(self, sessions: list[str]) -> set[str]:
        """Wait for the events of sessions or a reset; return the sessions without event."""
        give_up = now() + _SECONDS
        while not (self.resets or self.received.issuperset(sessions)) and now() < give_up:  # noqa: ASYNC110 - it has a bound
            await asyncio.sleep(0.02)
        return set() if self.resets else set(sessions) - self.received

    async def close(self) -> str:
        """Close the stream; return the event id to resume from."""
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        self.source.response.close()
        return self.source.last_id


class Followers:
    """Clients that follow streams of two nodes on one store."""

    def __init__(self, nodes: Fleet, clients: list[ClientSession]) -> None:
        self._nodes = nodes
        self._clients = clients
        self._names = ("one node", "another node")
        self.received = self.resets = 0
        self.problems: list[str] = []

    async def follow(self, name: str, last_id: str = "", client: int = 0) -> Follower:
        """Open a stream of all sessions."""
        return Follower(name, await follow(self._clients[client], EVENTS, last_id))

    async def create(self) -> list[str]:
        """Create sessions on both nodes; retry while the store is unavailable."""
        return list(await asyncio.gather(*(self._create(n % 2) for n in range(_CREATED))))

    async def _create(self, client: int) -> str:
        body = session_body()

        async def created() -> Any:
            async with self._clients[client].post(SESSIONS, json=body) as response:
                return (await response.json()).get("sessionId")

        return str(await wait_until(created, _SECONDS, every=0.05))

    async def check(self, follower: Follower, sessions: list[str], *, reset: bool) -> None:
        """Note sessions that are missing silently, or a missing reset; close the stream."""
        if missing := await follower.missing(sessions):
            self.problems.append(
                f"{follower.name}: {len(missing)} of {len(sessions)} events are missing silently"
            )
        if reset and not follower.resets:
            self.problems.append(f"{follower.name}: was not reset although the data has changed")
        self.received += len(follower.received & set(sessions))
        self.resets += follower.resets
        await follower.close()

    async def go_through(self, store: S, fault: StoreFault[S], reset: Sequence[str] = ()) -> None:
        """Open streams before a fault, cause it, and resume others after it.

        ``reset`` names the streams that the fault has to reset: those that are ``open``, or those
        that are resumed from ``an event`` or ``a position``.
        """
        await self.create()
        if isinstance(store, SingleServer):
            store.server.back_up()
        opened = [await self.follow(f"open on {self._names[n]}", client=n) for n in (0, 1)]
        leaving = await self.follow("leaving")
        later = await self.create()
        for follower in (*opened, leaving):
            if missing := await follower.missing(later):
                self.problems.append(f"{follower.name}: {len(missing)} missing before the fault")
            follower.resets = 0
        quiet = await self.follow("quiet")  # it has a position and no event
        await wait_until(
            lambda: quiet.source.last_id, description="the quiet stream has a position"
        )
        left_at = {"an event": await leaving.close(), "a position": await quiet.close()}
        await fault(store)
        sessions = await self.create()
        for follower in opened:
            await self.check(follower, sessions, reset="open" in reset)
        between = await self.follow("between")
        await wait_until(
            lambda: between.source.last_id, description="the stream after the fault has a position"
        )
        left_at["a position after the fault"] = await between.close()
        more = await self.create()
        for start, last_id in left_at.items():
            missed = more if "after" in start else sessions + more
            for n in (0, 1):
                name = f"resumed from {start} on {self._names[n]}"
                await self.check(await self.follow(name, last_id, n), missed, reset=start in reset)


@asynccontextmanager
async def followers(store: Store) -> AsyncIterator[Followers]:
    """Run two nodes on a store, with clients that follow their streams."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        nodes = await stack.enter_async_context(fleet(folder, store.url, 2))
        clients = [await stack.enter_async_context(node.client()) for node in nodes.nodes]
        yield Followers(nodes, clients)
        if defects := nodes.defects():
            raise AssertionError("\n".join(["defects in the log:", *defects[:5]]))


async def _row(
    repeats: int,
    condition: str,
    fault: StoreFault[S],
    start: Callable[[Path], AbstractAsyncContextManager[S]],
    reset: Sequence[str] = (),
) -> Row:
    problems: list[str] = []
    received = resets = 0
    for n in range(repeats):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            async with start(Path(folder)) as store, followers(store) as all_of:
                await all_of.go_through(store, fault, reset)
                problems += [f"repeat {n + 1}: {problem}" for problem in all_of.problems]
                received += all_of.received
                resets += all_of.resets
    return Row(
        f"streams while {condition}",
        repeats,
        f"{received:,} events received, {resets:,} resets, {len(problems)} problems",
        "open and resumed streams, on two nodes: every event or a reset",
        problems,
    )


async def clock_back(repeats: int, seconds: float) -> Row:
    """Set the clock of the running store back."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        clock = SettableClock(Path(folder))

        async def set_back(store: SingleServer) -> None:
            await _step(clock, store.server, -seconds)

        condition = f"the store's clock goes back by {seconds:g} s"
        return await _row(repeats, condition, set_back, partial(single_server, clock=clock))


async def replica_behind(repeats: int, seconds: float) -> Row:
    """Kill the master, so that a replica whose clock is behind takes over."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        clock = SettableClock(Path(folder))
        clock.set(-seconds)

        async def lose_master(store: SentinelGroup) -> None:
            master = await store.master()
            master.kill()
            await wait_until(partial(store.is_replaced, master), _SECONDS, every=0.05)

        condition = f"a replica is promoted whose clock is {seconds:g} s behind"
        return await _row(
            repeats, condition, lose_master, partial(sentinel_group, replica_clock=clock)
        )


async def _step(clock: SettableClock, server: StoreServer, seconds: float) -> None:
    """Step the clock of a running server; return once the server uses the new time."""
    clock.set(clock.offset + seconds)

    async def is_set() -> bool:
        now, _ = await server.command("TIME")
        return abs(int(now) - time.time() - clock.offset) < 1.5

    await wait_until(is_set)


async def _flush(store: SingleServer) -> None:
    await store.server.command("FLUSHALL")


async def flushed(repeats: int) -> Row:
    """Remove all data (FLUSHALL)."""
    return await _row(repeats, "all data is removed (FLUSHALL)", _flush, single_server, _ALL)


async def swapped(repeats: int) -> Row:
    """Swap the service's database for an empty one, and back (SWAPDB)."""

    async def swap(store: SingleServer) -> None:
        await store.server.command("SWAPDB", 0, 1)
        await asyncio.sleep(1)  # for the nodes to notice the new one
        await store.server.command("SWAPDB", 0, 1)

    return await _row(repeats, "databases are swapped, twice (SWAPDB)", swap, single_server, _ALL)


async def started_empty(repeats: int) -> Row:
    """Start the server again without its files."""

    async def start_empty(store: SingleServer) -> None:
        store.server.kill()
        store.server.delete_data()
        await store.server.start()

    return await _row(
        repeats, "the store starts again with no data", start_empty, single_server, _ALL
    )


async def started_old(repeats: int) -> Row:
    """Start the server again with an older copy of its files."""

    async def start_old(store: SingleServer) -> None:
        store.server.kill()
        store.server.delete_data(restore_backup=True)
        await store.server.start()

    return await _row(
        repeats, "the store starts again with an older copy", start_old, single_server, _SEEN
    )
