"""The audit log of a running service: one line for each end, beside the event that says by whom."""

import json
import signal
import time
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession

from tests.support.access import AGENT, ANN, BOB
from tests.support.api import SESSIONS
from tests.support.processes import ServiceProcess, Start
from tests.support.waiting import a_moment_later, wait_until
from tests.support.webhooks import SECRET, Receiver

KEY = "a key that servers of this family send"
JWT_SECRET = "a secret that is shared with the issuer"  # noqa: S105 - of this test
JWT_SETTINGS = {"JWT_SECRET": JWT_SECRET, "JWT_ISSUER": "issuer", "JWT_AUDIENCE": "sessions"}
SERVER = {"X-API-KEY": KEY}


def user(user_id: str) -> dict[str, str]:
    claims = {"sub": user_id, "iss": "issuer", "aud": "sessions", "exp": int(time.time()) + 600}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}


def audited(service: ServiceProcess) -> list[dict[str, Any]]:
    return [line for line in service.log if line["logger"] == "session_service.audit"]


async def create(client: ClientSession, user_id: str) -> str:
    """Create a session that is newer than those before; return its id."""
    await a_moment_later(2)
    body = {"userId": user_id, "agentId": AGENT}
    async with client.post(SESSIONS, json=body, headers=SERVER) as response:
        assert response.status == 201
        return str((await response.json())["sessionId"])


async def end(client: ClientSession, path: str, headers: dict[str, str]) -> str:
    """End sessions; return the id of the request."""
    async with client.delete(SESSIONS + path, headers=headers) as response:
        assert response.status == 200, await response.text()
        return response.headers["X-Request-ID"]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_end_has_one_line_and_an_event_by_whom(
    start: Start, store_url: str, workers: str
) -> None:
    """Ends by a user, a key, the cap and a bulk end; the requests beside them have no line."""
    receiver = Receiver()
    await receiver.start()
    service = start(
        **JWT_SETTINGS,
        REDIS_URL=store_url,
        ELIZA_SERVER_AUTH_TOKEN=KEY,
        SESSION_WEBHOOKS=json.dumps([{"url": receiver.url, "secret": SECRET}]),
        SESSION_MAX_PER_USER="2",
        SESSION_MAX_PER_USER_POLICY="end-oldest",
        WEB_CONCURRENCY=workers,
        LOG_LEVEL="error",
    )
    try:
        async with service.client() as client:
            by_user, by_key = await create(client, ANN), await create(client, ANN)
            requests = {
                by_user: await end(client, f"/{by_user}", user(ANN)),
                by_key: await end(client, f"/{by_key}", SERVER | {"Idempotency-Key": "once"}),
            }
            await end(client, f"/{by_key}", SERVER | {"Idempotency-Key": "once"})
            by_limit, *in_bulk = [await create(client, BOB) for _ in range(3)]
            for headers in (SERVER, user(BOB)):
                async with client.get(f"{SESSIONS}/{in_bulk[0]}", headers=headers) as response:
                    assert response.status == 200
            requests["bulk"] = await end(client, f"?userId={BOB}", SERVER)
            await wait_until(
                lambda: all("session.ended" in types(receiver, each) for each in in_bulk), 10
            )
    finally:
        await receiver.stop()

    lines = audited(service)
    ends = {line.get("session", "bulk"): line for line in lines}
    assert ends.keys() == {by_user, by_key, by_limit, "bulk"}
    assert len(lines) == 4
    assert {each: (line["event"], line["by"]) for each, line in ends.items()} == {
        by_user: ("session.ended", "user"),
        by_key: ("session.ended", "server"),
        by_limit: ("session.ended", "limit"),
        "bulk": ("sessions.ended", "server"),
    }
    assert ends["bulk"]["ended"] == 2
    assert {each: ends[each]["request_id"] for each in requests} == requests
    assert {line["credential_name"] for line in lines} == {ANN, "ELIZA_SERVER_AUTH_TOKEN"}
    details = {each: data_of_end(receiver, each) for each in (by_user, by_key, by_limit, *in_bulk)}
    assert details == {
        by_user: {"by": "user"},
        by_key: {"by": "server"},
        by_limit: {"by": "limit", "reason": "replaced"},
        **{each: {"by": "server", "reason": "bulk"} for each in in_bulk},
    }


def types(receiver: Receiver, session_id: str) -> list[str]:
    return [event["type"] for event in receiver.received[session_id]]


def data_of_end(receiver: Receiver, session_id: str) -> dict[str, Any]:
    """Return the reason and the ``by`` of the event that a session has ended."""
    (data,) = {
        json.dumps(event["data"], sort_keys=True)
        for event in receiver.received[session_id]
        if event["type"] == "session.ended"
    }
    return {name: value for name, value in json.loads(data).items() if name in ("by", "reason")}


async def test_counts_are_written_before_the_service_stops(start: Start, store_url: str) -> None:
    """Refusals that were only counted are in the log of a service that stops meanwhile."""
    service = start(REDIS_URL=store_url, ELIZA_SERVER_AUTH_TOKEN=KEY)
    async with service.client() as client:
        for _ in range(25):
            async with client.get(SESSIONS) as response:
                assert response.status == 401
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    lines = audited(service)
    assert sum(line.get("count", 1) for line in lines) == 25
    assert len(lines) < 25
    assert {line["event"] for line in lines} == {"request.refused"}
