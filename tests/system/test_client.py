"""The Python client while the node that it talks to is killed and replaced."""

import asyncio
from collections import Counter
from signal import SIGKILL

from chaos.stores.server import free_port
from session_service.client import SessionService
from tests.support.access import AGENT, ANN
from tests.support.processes import Start
from tests.support.waiting import wait_until


async def test_a_killed_node_loses_and_doubles_nothing(start: Start, store_url: str) -> None:
    """Calls are repeated until the next node answers; each message and event is there once."""
    port = str(free_port())
    node = start(REDIS_URL=store_url, PORT=port)
    assert node.port == int(port)
    contents = [f"Message {n}" for n in range(60)]
    async with SessionService(f"http://127.0.0.1:{port}", max_retries=20) as caller:
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        stream = caller.events.follow(session_id=session_id)
        types = Counter[str]()

        async def follow() -> None:
            async for event in stream:
                types[event.type] += 1

        async def send() -> None:
            for content in contents:
                await caller.messages.send(session_id, content)

        following = asyncio.create_task(follow())
        await wait_until(lambda: stream.position is not None)
        sending = asyncio.create_task(send())
        await wait_until(lambda: types["session.message"] >= 10)
        node.signal(SIGKILL)
        node.wait()
        replacement = start(REDIS_URL=store_url, PORT=port)
        assert replacement.port == int(port)
        await asyncio.wait_for(sending, 30)
        stored = [each.content async for each in caller.messages.list(session_id, after=0)]
        await caller.sessions.end(session_id)
        await asyncio.wait_for(following, 30)
    assert stored == contents
    assert types["session.message"] == len(contents)
    assert (types["reset"], types["session.ended"]) == (0, 1)
