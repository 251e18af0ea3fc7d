"""Faults of nodes, of a single store server, and of the connection to it.

Each is a function that causes the fault a number of times and returns the row of the report.
"""

import asyncio
import random
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from chaos.http import Connection, Unanswered, request
from chaos.lives import Lives
from chaos.proxy import proxy_to
from chaos.stores.base import single_server
from chaos.stores.server import free_port
from chaos.trials import Row, Tally, arena, now
from tests.support.api import SESSIONS
from tests.support.factories import session_body


async def node_killed(repeats: int) -> Row:
    """Kill one of three nodes, and start another in its place."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            single_server(Path(folder)) as store,
            arena(store, nodes=3, nodes_die=True) as a,
        ):

            async def kill() -> float:
                a.nodes.kill(random.choice(a.nodes.nodes))
                await a.nodes.add()
                return now()

            for _ in range(repeats):
                await a.repeat(kill, tally)
    return tally.row(
        "`kill -9` of one of three nodes under load",
        "0 acknowledged writes lost, 0 orphans after one sweep",
    )


async def store_killed(repeats: int, fsync: str) -> Row:
    """Kill the store's server, and start it again on its append-only file."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with single_server(Path(folder), fsync) as store, arena(store) as a:

            async def kill() -> float:
                store.server.kill()
                await asyncio.sleep(random.uniform(0, 0.3))
                await store.server.start()
                return now()

            for _ in range(repeats):
                await a.repeat(kill, tally)
    return tally.row(
        f"`kill -9` of the store under load, `appendfsync {fsync}`",
        "0 lost; recovery ≤ 2 s after it is back",
        recovery=2,
    )


_BODY_SECONDS = 0.6  # over which the body of a request is sent while its node is stopped
_HOLD = {"delay": 1.0, "reset": 0.7, "half-close": 0.7, "blackhole": 6.0, "one byte": 1.0}


async def proxied(repeats: int, mode: str) -> Row:
    """Disturb the connection to the store for a while."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            single_server(Path(folder)) as store,
            proxy_to(store.server.port) as proxy,
            arena(store, clients=12, url=f"redis://127.0.0.1:{proxy.port}/0") as a,
        ):

            async def disturb() -> float:
                proxy.mode = mode
                await asyncio.sleep(_HOLD[mode])
                proxy.mode = "pass"
                return now()

            for _ in range(repeats):
                await a.repeat(disturb, tally)
    return tally.row(
        f"network to the store: {mode}",
        "each answered within 3 s; 0 × 500, 0 false 404/410, 0 lost; healthy again ≤ 2 s",
        recovery=2,
    )


async def _create_slowly(port: int) -> str:
    """Create a session with a pause in the middle of the body; return the problem, or "".

    A stop that does not wait for requests under way would cut it off.
    """
    data = request("POST", SESSIONS, "slow", session_body())
    connection = await Connection.to(port)
    try:
        response = connection.send(data[:-10])
        await asyncio.sleep(_BODY_SECONDS)
        connection.send_more(data[-10:])
        status = (await asyncio.wait_for(response, 10)).status
    except (Unanswered, TimeoutError):
        return "a request under way at SIGTERM was not answered"
    finally:
        connection.close()
    return "" if status == 201 else f"a request under way at SIGTERM was answered {status}"


async def node_stopped(repeats: int) -> Row:
    """Replace one of three nodes as in a rolling restart, while its clients keep working."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with single_server(Path(folder)) as store, arena(store, nodes=3) as a:

            async def replace() -> float:
                await a.nodes.add()
                stopped = a.nodes.nodes[0]
                slow = asyncio.create_task(_create_slowly(stopped.port))
                await asyncio.sleep(_BODY_SECONDS / 2)
                exit_code = await a.nodes.stop(stopped)
                if exit_code != 0:
                    tally.problems.append(f"exit code {exit_code}")
                if problem := await slow:
                    tally.problems.append(problem)
                return now()

            for _ in range(repeats):
                await a.repeat(replace, tally)
    return tally.row("SIGTERM under load", "0 accepted requests dropped, exit code 0")


async def python_client(repeats: int) -> Row:
    """Have back ends use the Python client, while each of four faults comes in turn.

    A node is killed and replaced at its address; a proxy loses responses, its node is killed, and
    it goes on with another; the store and a node are killed; the proxy's node is replaced in order.
    """
    tally, port = Tally(), free_port()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        store = await stack.enter_async_context(single_server(folder, "always"))
        proxy = await stack.enter_async_context(proxy_to(0))
        lives = Lives([f"http://127.0.0.1:{each}" for each in (port, proxy.port)])
        a = await stack.enter_async_context(arena(store, nodes=0, load=lives))
        replaced, behind = await asyncio.gather(a.nodes.add(port), a.nodes.add())
        proxy.target = behind.port

        async def replace() -> None:
            nonlocal replaced
            a.nodes.kill(replaced)
            replaced = await a.nodes.add(port)

        async def move() -> None:
            nonlocal behind
            proxy.mode = "half-close"
            await asyncio.sleep(_HOLD["half-close"])
            a.nodes.kill(behind)
            proxy.mode = "pass"
            behind = await a.nodes.add()
            proxy.target = behind.port

        async def restart_store() -> None:
            nonlocal replaced
            store.server.kill()
            a.nodes.kill(replaced)
            await asyncio.sleep(random.uniform(0, 0.3))
            await store.server.start()
            replaced = await a.nodes.add(port)

        async def roll() -> None:
            nonlocal behind
            leaving, behind = behind, await a.nodes.add()
            proxy.target = behind.port
            if (exit_code := await a.nodes.stop(leaving)) != 0:
                tally.problems.append(f"exit code {exit_code}")

        faults = (replace, move, restart_store, roll)

        async def cause() -> float:
            await faults[tally.repeats % len(faults)]()
            return now()

        for _ in range(repeats):
            await a.repeat(cause, tally)
    if not tally.statuses["kept"]:
        tally.problems.append("no session was kept alive")
    return tally.row(
        "Python client: nodes are killed or stopped, the store is killed, responses are lost",
        "what returned has happened once, what raised once at most; every event once",
    )
