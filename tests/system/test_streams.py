"""Events across nodes: resumed streams are complete, and a stop loses no client."""

import asyncio
import signal
from collections import defaultdict

from aiohttp import ClientSession

from tests.support.api import SESSIONS, create
from tests.support.processes import Start
from tests.support.sse import EVENTS, ReceivedEvent, follow

SHORT = {"SESSION_MIN_TIMEOUT_MINUTES": "0.01", "SESSION_WARNING_THRESHOLD_MINUTES": "0.005"}


async def live(client: ClientSession) -> str:
    """Create a session, renew it three times and end it; return its id."""
    session_id: str = (await create(client))["sessionId"]
    for _ in range(3):
        async with client.post(f"{SESSIONS}/{session_id}/renew") as response:
            assert response.status == 200
    async with client.delete(f"{SESSIONS}/{session_id}") as response:
        assert response.status == 200
    return session_id


LIFE = ["session.created", *["session.renewed"] * 3, "session.ended"]


def by_session(received: list[ReceivedEvent]) -> dict[str, list[str]]:
    lives = defaultdict(list)
    for each in received:
        lives[each.subject].append(each.name)
    return lives


async def test_who_was_away_misses_nothing(start: Start, store_url: str) -> None:
    """A consumer that moves to another node gets each event once, in order.

    The length of its absence does not matter: the store has the events, by default for an hour and
    up to 500,000.
    """
    nodes = [start(REDIS_URL=store_url) for _ in range(2)]
    async with nodes[0].client() as first, nodes[1].client() as second:
        source = await follow(first, EVENTS)
        lives = await asyncio.gather(
            *(live(client) for client in (first, second) for _ in range(20))
        )
        seen = await source.take(77)  # in the middle of many sessions
        source.response.close()
        lives += await asyncio.gather(
            *(live(client) for client in (first, second) for _ in range(300))
        )
        source = await follow(second, EVENTS, seen[-1].id)
        more = asyncio.create_task(live(second))
        seen += await source.take((len(lives) + 1) * len(LIFE) - len(seen))
        lives.append(await more)
    received = by_session(seen)
    assert set(received) == set(lives)
    assert all(each == LIFE for each in received.values())
    assert [each.id for each in seen] == sorted({each.id for each in seen}, key=order)


def order(event_id: str) -> tuple[int, str, int]:
    ms, shard, number = event_id.split("-")
    return int(ms), shard, int(number)


async def test_what_runs_out_is_told_once_by_any_number_of_nodes(
    start: Start, store_url: str
) -> None:
    """Each warning and expiry is announced once, while one of three nodes is killed."""
    nodes = [start(REDIS_URL=store_url, **SHORT) for _ in range(3)]
    async with nodes[0].client() as first, nodes[1].client() as second:
        source = await follow(first, EVENTS, type="expiring,expired")
        timeouts = {"timeoutMinutes": 0.02, "warningThresholdMinutes": 0.01}  # 1.2 s, 0.6 s
        sessions = await asyncio.gather(
            *(create(second, timeoutConfig=timeouts) for _ in range(200))
        )
        ids = {session["sessionId"] for session in sessions}
        nodes[2].kill()
        received = await source.take(400)
        await live(second)
        everything = await follow(first, EVENTS, received[-1].id)
        lives = by_session(received)
        assert set(lives) == ids
        assert all(each == ["session.expiring", "session.expired"] for each in lives.values())
        assert by_session(await everything.take(5)).popitem()[1] == LIFE


async def test_streams_end_with_the_service(start: Start, store_url: str) -> None:
    """SIGTERM ends streams at once with a retry time; another node resumes them."""
    one, other = (start(REDIS_URL=store_url) for _ in range(2))
    async with one.client() as client, other.client() as there:
        session_id = (await create(client))["sessionId"]
        sources = [await follow(client, f"{SESSIONS}/{session_id}/events") for _ in range(20)]
        one.signal(signal.SIGTERM)
        for source in sources:
            await source.rest()
            assert source.comments[-1] == "the service stops; reconnect with Last-Event-ID"
            assert source.retry >= 1000
        assert one.wait() == 0
        async with there.delete(f"{SESSIONS}/{session_id}") as response:
            assert response.status == 200
        again = await follow(there, f"{SESSIONS}/{session_id}/events", sources[0].last_id)
        assert [each.name for each in await again.rest()][-1] == "session.ended"
