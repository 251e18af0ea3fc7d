"""Stores that other versions of the service have written to."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis

from session_service.domain.ids import new_id, shard_of_user
from tests.support.api import SESSIONS, post
from tests.support.factories import session_body
from tests.support.processes import ROOT, ServiceProcess, Start, run
from tests.support.waiting import wait_until

BRIEF = {"timeoutMinutes": 0.01, "autoRenew": False}  # 600 ms
SETTINGS = {"SESSION_MIN_TIMEOUT_MINUTES": "0.001", "SESSION_WARNING_THRESHOLD_MINUTES": "0.001"}


def a_newer_version(folder: Path) -> str:
    """Make a version that reads formats 2 and 3 and writes 3; return its PYTHONPATH."""
    package = folder / "session_service"
    shutil.copytree(ROOT / "session_service", package)
    changes = {
        "store/records.py": (
            ("\nFORMAT = 2", "\nFORMAT = 3"),
            ('parts[0] != b"2"', 'parts[0] not in (b"2", b"3")'),
            ('rb"2 expired', 'rb"[23] expired'),
        ),
        "store/lua/record.lua": (
            ("'^2 (", "'^[23] ("),
            ("'^2 expired", "'^[23] expired"),
        ),
        "store/lua/save.lua": (("record = '2 '", "record = '3 '"),),
        "store/lua/sweep.lua": (("'2 expired ", "'3 expired "),),
    }
    for name, pairs in changes.items():
        text = (package / name).read_text("utf-8")
        for old, new in pairs:
            assert old in text, (name, old)
            text = text.replace(old, new)
        (package / name).write_text(text, "utf-8")
    return str(folder)


def at(service: ServiceProcess) -> str:
    """Return the URL of the sessions."""
    return f"http://127.0.0.1:{service.port}{SESSIONS}"


async def status(client: ClientSession, method: str, url: str, **options: Any) -> int:
    async with client.request(method, url, **options) as response:
        await response.read()
        return response.status


async def test_a_fleet_of_two_formats(start: Start, store_url: str, tmp_path: Path) -> None:
    """An older node answers 503 for newer records, and never deletes them."""
    version = a_newer_version(tmp_path / "newer")
    settings = {"REDIS_URL": store_url, **SETTINGS}
    async with ClientSession() as client, Redis.from_url(store_url) as store:
        old = start(**settings)
        new = start(PYTHONPATH=version, **settings)
        newer, older = at(new), at(old)

        async def made(url: str, **fields: Any) -> str:
            body = session_body(**fields)
            created = (await post(client, url, body))["sessionId"]
            await post(client, f"{url}/{created}/messages", {"content": "Hello"})
            return str(created)

        async def stored(*session_ids: str) -> list[bytes | None]:
            return [
                await store.dump(f"session-service:{{{each[:2]}}}:{part}{each}")
                for each in session_ids
                for part in ("", "msg:")
            ]

        lasting, ending = await made(newer), await made(newer)
        readable = await made(older)
        before = await stored(lasting, ending)
        for method, path, body in (
            ("GET", "", None),
            ("POST", "/renew", None),
            ("POST", "/heartbeat", None),
            ("PATCH", "/timeout", {"autoRenew": False}),
            ("PATCH", "", {"metadata": {"a": 1}}),
            ("POST", "/messages", {"content": "Hello"}),
            ("GET", "/messages", None),
            ("DELETE", "", None),
        ):
            assert await status(client, method, f"{older}/{lasting}{path}", json=body) == 503
        assert await status(client, "DELETE", f"{older}?all=true") == 200
        assert await status(client, "GET", f"{older}/{readable}") == 404
        assert await stored(lasting, ending) == before
        assert await status(client, "GET", f"{newer}/{await made(older)}") == 200
        assert await status(client, "DELETE", f"{newer}/{ending}") == 200
        assert await status(client, "GET", f"{older}/{ending}") == 404

        # The newer node expires it; the older one cannot read its tombstone either.
        expiring = await made(newer, timeoutConfig=BRIEF)

        async def is_over() -> bool:
            return await stored(expiring) != [None, None] and (
                await status(client, "GET", f"{newer}/{expiring}") == 410
                and (await stored(expiring))[1] is None
            )

        await wait_until(is_over)
        assert await status(client, "GET", f"{older}/{expiring}") == 503

        # Its deadline passes while no node can read it, and the older one leaves it alone.
        abandoned = await made(newer, timeoutConfig={**BRIEF, "timeoutMinutes": 0.02})
        new.signal(signal.SIGTERM)
        assert new.wait() == 0
        before = await stored(abandoned)
        swept = await made(older, timeoutConfig={**BRIEF, "timeoutMinutes": 0.03})

        async def is_swept() -> bool:
            return (await stored(swept))[1] is None

        await wait_until(is_swept)
        assert await stored(abandoned) == before
        again = start(PYTHONPATH=version, **settings)

        async def is_expired() -> bool:
            return (await stored(abandoned))[1] is None

        await wait_until(is_expired)
        assert await status(client, "GET", f"{at(again)}/{abandoned}") == 410


async def old_session(store: Redis, prefix: str, *, is_format_1: bool = False) -> None:
    """Store a session as version 0.1.0 did, or in format 1."""
    user = str(uuid4())
    session, agent = new_id(shard_of_user(user), os.urandom), str(uuid4())
    at = "1768473045123"
    key = f"{prefix}:{{{session[:2]}}}"
    values = f"{at} {at} {at} 0 1800000 43200000 300000 1 {agent} {user}"
    record = f"1 {values} {{}}\n" if is_format_1 else f"{values} {uuid4()} {{}}"
    await store.set(f"{key}:id:{session}", record, ex=60)
    await store.zadd(f"{key}:listing", {f"u{user}:{agent}:{session}": 0})
    await store.expire(f"{key}:listing", 60)


@pytest.mark.parametrize("is_format_1", [True, False])
@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("sess", {}),
        ("session-service", {}),
        ("mine", {"SESSION_KEY_PREFIX": "mine"}),
    ],
)
async def test_sessions_of_an_older_format_stop_the_start(
    store_url: str, tmp_path: Path, prefix: str, settings: dict[str, str], *, is_format_1: bool
) -> None:
    """One line says what to do."""
    async with Redis.from_url(store_url) as store:
        await old_session(store, prefix, is_format_1=is_format_1)
    ended = run(tmp_path, "serve", REDIS_URL=store_url, LOG_FORMAT="console", **settings)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "cannot serve" in line]
    assert f"data of an older format under the prefix '{prefix}'" in line
    assert "SESSION_KEY_PREFIX" in line


async def test_an_older_format_without_sessions_stops_the_start(
    store_url: str, tmp_path: Path
) -> None:
    """The key meta is enough to see an older format: events and conversations may be left."""
    async with Redis.from_url(store_url) as store:
        await store.hset("session-service:{00}:meta", mapping={"format": 1, "epoch": "0" * 16})
        await store.expire("session-service:{00}:meta", 60)
    ended = run(tmp_path, "serve", REDIS_URL=store_url)
    assert ended.returncode == 1
    assert "data of an older format under the prefix 'session-service'" in ended.stderr


async def test_foreign_keys_and_another_prefix_do_not_stop_it(start: Start, store_url: str) -> None:
    """Keys of connect-redis and old sessions under another prefix do not stop the start."""
    async with Redis.from_url(store_url) as store, ClientSession() as client:
        await store.set("sess:AbCdEf", "{}", ex=60)
        await store.lpush("sess:{00}:listing", "x")
        await store.expire("sess:{00}:listing", 60)
        await old_session(store, "other")
        service = start(REDIS_URL=store_url)
        async with client.post(at(service), json=session_body()) as response:
            assert response.status == 201
        meta = await store.hgetall("session-service:{00}:meta")
        assert meta[b"format"] == b"2"
        assert await store.ttl("session-service:{00}:meta") > 365 * 86_400
