"""Conversations outlast their sessions if the settings say so."""

from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.api import SESSIONS
from tests.support.factories import session_body
from tests.support.processes import Start
from tests.support.waiting import wait_until


async def asked(client: ClientSession, method: str, url: str, **body: Any) -> tuple[int, Any]:
    async with client.request(method, url, json=body or None) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(("kept_minutes", "status"), [("1", 200), ("0", 404)])
@pytest.mark.parametrize("by", ["end", "expiry"])
async def test_a_conversation_is_kept_as_it_is_set(
    start: Start, by: str, kept_minutes: str, status: int
) -> None:
    """After an end or a sweep the conversation is in its channel, or gone."""
    service = start(
        SESSION_HISTORY_RETENTION_MINUTES=kept_minutes, SESSION_MIN_TIMEOUT_MINUTES="0.001"
    )
    async with service.client() as client:
        parties = session_body()
        timeout = {"timeoutMinutes": 0.01 if by == "expiry" else 30}
        _, session = await asked(client, "POST", SESSIONS, **parties, timeoutConfig=timeout)
        url = f"{SESSIONS}/{session['sessionId']}"
        sent, _ = await asked(client, "POST", f"{url}/messages", content="Hello")
        assert sent == 201
        if by == "end":
            await asked(client, "DELETE", url)

        channel = f"/api/messaging/channels/{session['channelId']}/messages"

        async def is_over() -> bool:
            response, _ = await asked(client, "GET", f"{url}/messages")
            return response in (404, 410) and (await asked(client, "GET", channel))[0] == status

        await wait_until(is_over)  # a sweep runs every second
        _, page = await asked(client, "GET", channel)
        if status == 200:
            assert [message["content"] for message in page["messages"]] == ["Hello"]
