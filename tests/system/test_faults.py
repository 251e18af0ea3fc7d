"""Faults of nodes and of connections to the store; and a short run of the fault harness itself."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from chaos.lives import Lives
from chaos.loads import soaked
from chaos.proxy import proxy_to
from chaos.stores.base import SingleServer, single_server
from chaos.trials import Tally, arena, now
from tests.support.faults import HAS_PROC, check, scenarios


@scenarios(
    {
        "node-killed": 2,
        "python-client": 4,
        "proxy-delay": 1,
        "proxy-reset": 2,
        "proxy-half-close": 1,
        "proxy-blackhole": 1,
        "proxy-one-byte": 1,
        "sigterm": 2,
        "cancels": 3000,
    }
)
def test_what_was_acknowledged_holds(name: str, often: int) -> None:
    """No response is false, no acknowledged change is lost, and no key is orphaned."""
    check(name, often)


@pytest.mark.skipif(not HAS_PROC, reason="missing tool: /proc")
def test_many_requests_leave_nothing_behind() -> None:
    """Requests leak no tasks, no sockets and no keys of ended sessions."""
    row = uvloop.run(soaked(4, rate=1000))
    assert [problem for problem in row.problems if "requests/s" not in problem] == []


class TestTheHarness:
    """The fault harness detects the damage that it is there to detect."""

    async def test_lost_sessions_are_seen(self, tmp_path: Path) -> None:
        """Lost sessions are detected."""

        async def lose(store: SingleServer) -> None:
            await store.server.command("FLUSHALL")

        tally = await _tally_of(lose, tmp_path)
        assert any("live, now 404" in problem or "404 (" in problem for problem in tally.lost)

    async def test_untrue_indexes_are_seen(self, tmp_path: Path) -> None:
        """Live sessions that are not listed are detected."""

        async def lose(store: SingleServer) -> None:
            keys = [key async for key in store.server.redis.scan_iter("*:listing")]
            await store.server.command("DEL", *keys)

        tally = await _tally_of(lose, tmp_path)
        assert any("listing" in problem for problem in (*tally.lost, *tally.problems))

    async def test_writes_that_happen_twice_are_seen(self, tmp_path: Path) -> None:
        """Renewals that nobody requested are detected."""
        more = """
        for _, key in ipairs(redis.call('KEYS', '*}:????????-????-*')) do
          local record = redis.call('GET', key)
          local head, renewals, tail = string.match(record, '^(2 %d+ %d+ %d+ )(%d+)( .*)$')
          if head then redis.call('SET', key, head .. renewals + 1 .. tail, 'KEEPTTL') end
        end
        """

        async def renew(store: SingleServer) -> None:
            await store.server.command("EVAL", more, 0)

        tally = await _tally_of(renew, tmp_path)
        assert any("WRONG: renewed" in problem for problem in tally.problems)

    @pytest.mark.proof
    async def test_requests_that_the_client_repeats_are_seen(self, tmp_path: Path) -> None:
        """Repetitions by the Python client that have a second effect are detected."""
        tally = Tally()
        async with single_server(tmp_path) as store, proxy_to(0) as proxy:
            lives = Lives([f"http://127.0.0.1:{proxy.port}"])
            async with arena(store, nodes=0, load=lives) as a:
                proxy.target = (await a.nodes.add()).port

                async def forget_keys() -> float:
                    proxy.mode = "half-close"
                    until = now() + 1
                    while now() < until:
                        redis = store.server.redis
                        keys = [key async for key in redis.scan_iter("*:idem:*", count=1000)]
                        keys += [key async for key in redis.scan_iter("*:claim:*", count=1000)]
                        await redis.unlink("none", *keys)
                    proxy.mode = "pass"
                    return now()

                await a.repeat(forget_keys, tally)
        assert any("WRONG: a message twice" in problem for problem in tally.problems)
        assert any("WRONG: renewed" in problem for problem in tally.problems)


async def _tally_of(damage: Callable[[SingleServer], Awaitable[None]], folder: Path) -> Tally:
    """Return the observations of a damage that no service does."""
    tally = Tally()
    async with single_server(folder) as store, arena(store, clients=8) as a:

        async def do() -> float:
            await damage(store)
            await asyncio.sleep(0.2)
            return now()

        await a.repeat(do, tally)
    return tally
