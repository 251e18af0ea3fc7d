"""Ending many sessions at once while more are being created."""

import asyncio
from typing import Any

import pytest

from session_service.domain.sessions import NewSession
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.sessions.repository import SessionRepository
from tests.support.api import SESSIONS, create
from tests.support.factories import HOUR_MS, new_uuid
from tests.support.processes import Start

CREATORS = 4


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.proof)])
async def test_a_users_sessions_end_while_more_are_created(
    start: Start, store_url: str, repository: SessionRepository, count: int
) -> None:
    """All sessions created before the call end and are counted once; another user's stay."""
    settings = {"SESSION_KEY_PREFIX": "test", "SESSION_MAX_PER_USER": "0"}
    nodes = [start(REDIS_URL=store_url, **settings) for _ in range(2)]
    user, agent = new_uuid(), new_uuid()
    new = NewSession(agent, user, TimeoutConfig(HOUR_MS, True, HOUR_MS, HOUR_MS // 12), b"{}")
    for _ in range(count // 500):
        await asyncio.gather(*(repository.create(new) for _ in range(500)))

    since: set[str] = set()
    over = asyncio.Event()
    async with nodes[0].client() as here, nodes[1].client() as there:
        bystander = await create(here)

        async def go_on_creating() -> None:
            while not over.is_set():
                since.add((await create(here, userId=user))["sessionId"])

        creating = [asyncio.create_task(go_on_creating()) for _ in range(CREATORS)]
        ended, more = 0, True
        while more:
            async with there.delete(SESSIONS, params={"userId": user}) as response:
                body = await response.json()
                assert response.status == 200, body
                ended, more = ended + body["ended"], body["more"]
        over.set()
        await asyncio.gather(*creating)

        left: set[str] = set()
        page: dict[str, Any] = {}
        while page.get("nextCursor", True):
            cursor = {"cursor": page["nextCursor"]} if page else {}
            query = {"userId": user, "limit": "1000", **cursor}
            async with here.get(SESSIONS, params=query) as response:
                page = await response.json()
            left.update(session["sessionId"] for session in page["sessions"])
        assert left
        assert left <= since
        assert ended == count + len(since - left)
        async with there.get(f"{SESSIONS}/{bystander['sessionId']}") as response:
            assert response.status == 200
