"""The permissions of the service's user in the store, as docs/operating.md lists them."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from session_service.composition import open_store
from session_service.settings import Settings
from session_service.store.inspection.monitor import StoreMonitor
from session_service.store.scripts.dataset import PROBE
from session_service.store.sessions.deadlines import SHARD_BLOCKS
from tests.support.api import SESSIONS, assert_error
from tests.support.factories import session_body
from tests.support.servers import store_server, valkey_binary
from tests.support.service import ServiceUnderTest, app_state
from tests.support.tools import needs

ROOT = Path(__file__).parents[2]
LUA = ROOT / "session_service/store/lua"
SERVERS = [valkey_binary(), pytest.param("redis-server", marks=needs("redis-server"))]


def documented_rules() -> list[str]:
    """Return the ACL rules of docs/operating.md."""
    text = (ROOT / "docs/operating.md").read_text("utf-8")
    found = re.search(r"ACL SETUSER sessions on >PASSWORD (.*?)```", text, re.DOTALL)
    assert found
    return found[1].split()


COMMANDS = [rule.removeprefix("+") for rule in documented_rules() if rule.startswith("+")]


@pytest.fixture(params=SERVERS, ids=["valkey", "redis"], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with store_server(request.param) as url:
        yield url


@contextmanager
def user(server: str, rules: list[str]) -> Iterator[str]:
    """Create a user with ACL rules; yield the store's URL with its login."""
    with Redis.from_url(server) as operator:
        operator.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *rules)
        yield server.replace("unix://", "unix://app:secret@")
        operator.execute_command("ACL", "DELUSER", "app")


@asynccontextmanager
async def monitor(url: str) -> AsyncIterator[StoreMonitor]:
    async with open_store(Settings(redis_url=url)) as store:
        await store.monitor.refresh()
        yield store.monitor


def test_what_scripts_call_is_what_is_tried_and_documented() -> None:
    """Every command that a script calls is in lua/probe.lua and docs/operating.md, and no other."""
    pattern = re.compile(r"call\('([A-Z]+)'(?:, '(CREATE|DESTROY)')?")
    used, tried = set[str](), set[str]()
    for file in LUA.rglob("*.lua"):
        for words in pattern.findall(file.read_text("utf-8")):
            used.add("|".join(filter(None, words)).lower())
    for words in re.findall(r"\{'([A-Z]+)'(?:, '(CREATE|DESTROY)')?", PROBE.source.decode()):
        tried.add("|".join(filter(None, words)).lower())
    assert used == tried
    direct = {"ping", "info", "client|setname", "evalsha", "script|load"}
    assert used | direct == set(COMMANDS)


async def test_the_documented_permissions_are_enough(
    server: str, aiohttp_client: Callable[..., Any]
) -> None:
    """With the documented permissions, everything that the service does succeeds."""
    with user(server, documented_rules()) as url:
        async with monitor(url) as found:
            assert list(found.reasons()) == []
        async with open_store(Settings(redis_url=url, history_minutes=1)) as store:
            client = await aiohttp_client(ServiceUnderTest(app_state(store)))
            await make_all_requests(client)
            await store.deadlines.find_due(SHARD_BLOCKS[0])
            await store.consumer.next(0)


async def make_all_requests(client: Any) -> None:
    """Make every kind of request; each has to succeed."""
    owner = session_body()

    async def do(method: str, path: str, status: int, body: Any = None, **headers: str) -> Any:
        async with client.request(method, path, json=body, headers=headers) as response:
            assert response.status == status, (method, path, await response.text())
            return await response.json()

    session = await do("POST", SESSIONS, 201, owner, **{"Idempotency-Key": "a"})
    one = f"{SESSIONS}/{session['sessionId']}"
    await do("POST", f"{one}/messages", 201, {"content": "hello"}, **{"Idempotency-Key": "b"})
    await do("GET", f"{one}/messages", 200)
    await do("GET", one, 200)
    await do("POST", f"{one}/renew", 200)
    await do("POST", f"{one}/heartbeat", 200)
    await do("PATCH", f"{one}/timeout", 200, {"timeoutMinutes": 60})
    await do("PATCH", one, 200, {"metadata": {"plan": "pro"}})
    await do("GET", SESSIONS, 200)
    await do("GET", f"{SESSIONS}?userId={owner['userId']}", 200)
    assert (await do("GET", f"{SESSIONS}/health", 200))["status"] == "healthy"
    hook = await do("POST", "/api/messaging/webhooks", 201, {"url": "https://example.com/hook"})
    await do("GET", "/api/messaging/webhooks", 200)
    await do("DELETE", f"/api/messaging/webhooks/{hook['webhookId']}", 200)
    await do("DELETE", one, 200)
    await do("POST", SESSIONS, 201, owner)
    await do("DELETE", f"{SESSIONS}?userId={owner['userId']}", 200)
    await do("GET", "/readyz", 200)


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_missing_permission_is_named(server: str, command: str) -> None:
    """Health names exactly the command that is not permitted."""
    rules = [rule for rule in documented_rules() if rule != f"+{command}"]
    with user(server, rules) as url:
        async with monitor(url) as found:
            named = command.replace("|", " ").upper()
            assert list(found.reasons()) == [
                f"the store's user is not permitted {named} (docs/operating.md)"
            ]


async def test_foreign_keys_are_named(server: str) -> None:
    """Health says that the user may not use keys with the service's prefix."""
    rules = ["~other:*", *(rule for rule in documented_rules() if rule.startswith("+"))]
    with user(server, rules) as url:
        async with monitor(url) as found:
            (reason,) = found.reasons()
            assert "keys that start with SESSION_KEY_PREFIX" in reason


@pytest.mark.parametrize(
    "command", ["time", "xadd", "zadd", "zrem", "set", "evalsha", "script|load", "get"]
)
async def test_a_denied_command_is_503(
    server: str, command: str, aiohttp_client: Callable[..., Any]
) -> None:
    """A denied command is answered 503, and requests succeed once it is permitted."""
    with Redis.from_url(server) as operator:
        operator.script_flush()
    with user(server, ["~*", "+@all", f"-{command}"]) as url:
        async with open_store(Settings(redis_url=url)) as store:
            client = await aiohttp_client(ServiceUnderTest(app_state(store)))
            owner = session_body()
            async with client.post(SESSIONS, json=owner) as response:
                if command not in ("zrem", "get"):
                    await assert_error(response, 503, "STORE_UNAVAILABLE")
                    one = f"{SESSIONS}/{uuid4()}"
                else:
                    one = f"{SESSIONS}/{(await response.json())['sessionId']}"
            async with client.delete(one) as response:
                if command in ("zrem", "get"):
                    await assert_error(response, 503, "STORE_UNAVAILABLE")
            with Redis.from_url(server) as operator:
                operator.execute_command("ACL", "SETUSER", "app", f"+{command}")
            async with client.post(SESSIONS, json=owner) as response:
                assert response.status == 201
