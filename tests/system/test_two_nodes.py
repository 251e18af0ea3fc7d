"""Two nodes on one store act as one service."""

import asyncio
from collections import Counter

import pytest

from tests.support.api import SESSIONS, create
from tests.support.factories import session_body
from tests.support.processes import Start

CONNECTIONS = 100  # to each node
PIPELINED = 5  # on each connection; 2 nodes * 100 * 5 are the 1,000 callers of a session

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def end_repeatedly(connection: Connection, session_id: str) -> list[int]:
    """Send several requests to end a session at once; return their statuses."""
    reader, writer = connection
    path = f"{SESSIONS}/{session_id}".encode()
    writer.write(b"DELETE %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path * PIPELINED)
    return [await read_status(reader) for _ in range(PIPELINED)]


async def read_status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"\r\ncontent-length:")
    await reader.readexactly(int(length.partition(b"\r\n")[0]))
    return int(head[9:12])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.proof)])
async def test_one_of_a_thousand_callers_ends_a_session(
    start: Start, store_url: str, count: int
) -> None:
    """Of 1,000 concurrent callers on two nodes exactly one gets 200, for each session."""
    nodes = [start(REDIS_URL=store_url) for _ in range(2)]
    async with nodes[0].client() as client:
        sessions = [(await create(client))["sessionId"] for _ in range(count)]
    connections = await asyncio.gather(
        *(
            asyncio.open_connection("127.0.0.1", node.port)
            for node in nodes
            for _ in range(CONNECTIONS)
        )
    )
    for session_id in sessions:
        responses = await asyncio.gather(
            *(end_repeatedly(each, session_id) for each in connections)
        )
        statuses = Counter(status for several in responses for status in several)
        assert statuses == {200: 1, 404: 999}
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()


async def test_two_tabs_get_the_same_session(start: Start, store_url: str) -> None:
    """Of 50 concurrent calls of getOrCreate through two nodes one creates the session."""
    nodes = [start(REDIS_URL=store_url) for _ in range(2)]
    async with nodes[0].client() as one, nodes[1].client() as other:
        for _ in range(10):
            body = session_body(getOrCreate=True)
            calls = (client.post(SESSIONS, json=body) for client in (one, other) * 25)
            responses = await asyncio.gather(*calls)
            assert sorted(each.status for each in responses) == [200] * 49 + [201]
            bodies = await asyncio.gather(*(each.json() for each in responses))
            assert len({each["sessionId"] for each in bodies}) == 1


async def test_what_one_node_does_the_other_sees(start: Start, store_url: str) -> None:
    """A session created on one node can be used and ended on the other."""
    first, second = start(REDIS_URL=store_url), start(REDIS_URL=store_url)
    async with first.client() as here, second.client() as there:
        session = f"{SESSIONS}/{(await create(here))['sessionId']}"
        async with there.post(f"{session}/messages", json={"content": "Hello"}) as response:
            assert response.status == 201
        async with here.get(f"{session}/messages") as response:
            assert [m["content"] for m in (await response.json())["messages"]] == ["Hello"]
        async with there.delete(session) as response:
            assert response.status == 200
        async with here.get(session) as response:
            assert response.status == 404
