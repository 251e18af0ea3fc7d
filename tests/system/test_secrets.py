"""Secrets: each is a canary that must not be in a log, the store, a response or a command line."""

import base64
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
import socketio
from aiohttp import ClientSession
from redis import Redis

from session_service.domain.api_keys import ID as KEY_ID
from session_service.domain.credentials import Permission
from tests.support.access import AGENT, ANN, BOB
from tests.support.api import SESSIONS
from tests.support.factories import ID as UNKNOWN
from tests.support.processes import ServiceProcess, Start, run
from tests.support.raw import Raw
from tests.support.servers import store_server, valkey_binary
from tests.support.sse import EVENTS
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver


def canary(name: str) -> str:
    return f"canary-of-{name}-0123456789-0123456789"


PASSWORD = canary("the-store")
AUTH_TOKEN = canary("the-auth-token")
JWT_SECRET = canary("jwts")
TOKEN_SECRET = canary("session-tokens")
OLD_SECRET = canary("older-session-tokens")
IN_URL = canary("a-url")
REGISTERED = "whsec_" + base64.b64encode(b"canary of a webhook 0123456789ab").decode()
SCOPES = ",".join(Permission)
ISSUER, AUDIENCE = "https://id.example.org/", "sessions"

ID_IN_PATH = re.compile(r"(?<=/)[0-9a-f]{8}-[0-9a-f-]{27}")

Headers = dict[str, str]


@pytest.fixture
def store() -> Iterator[Redis]:
    """A store with a password."""
    with store_server(valkey_binary()) as url, Redis.from_url(url) as client:
        client.config_set("requirepass", PASSWORD)
        client.auth(PASSWORD)
        yield client


@pytest.fixture
def settings(store: Redis, tmp_path: Path) -> dict[str, str]:
    """Settings with each secret, some of them in files."""
    path = store.connection_pool.connection_kwargs["path"]
    files = {"REDIS_URL": f"unix://:{PASSWORD}@{path}", "JWT_SECRET": JWT_SECRET}
    for name, secret in files.items():
        (tmp_path / name).write_text(f"{secret}\n")
    return {
        **{f"{name}_FILE": str(tmp_path / name) for name in files},
        "ELIZA_SERVER_AUTH_TOKEN": AUTH_TOKEN,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "SESSION_TOKEN_SECRET": f"{TOKEN_SECRET},{OLD_SECRET}",
        "SESSION_EVENTS_CONTENT": "true",
        "SESSION_HISTORY_RETENTION_MINUTES": "60",
        "SESSION_CREATE_LIMIT_ADDRESS": "1",
        "LOG_LEVEL": "debug",
    }


def user_token(user_id: str) -> str:
    claims = {"sub": user_id, "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
    return jwt.encode(claims, JWT_SECRET, "HS256")


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


class Caller:
    """An HTTP client that keeps all responses as text, by their requests."""

    def __init__(self, client: ClientSession) -> None:
        self._client = client
        self.responses: list[tuple[str, str]] = []
        self.statuses: set[int] = set()

    async def __call__(self, method: str, path: str, **options: Any) -> str:
        """Make a request; return the body of the response, of a stream its first bytes."""
        async with self._client.request(method, path, **options) as response:
            if "event-stream" in response.content_type:
                body = (await response.content.readuntil(b"\n\n")).decode()
            else:
                body = await response.text()
            head = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
            self.statuses.add(response.status)
            self.responses.append((f"{method} {path.partition('?')[0]}", head + body))
            return body


async def create(call: Caller, headers: Headers, user_id: str = ANN, **options: str) -> str:
    body = {"userId": user_id, "agentId": AGENT}
    created = json.loads(await call("POST", SESSIONS, json=body, headers=headers | options))
    return str(created["sessionId"])


async def use(call: Caller, headers: Headers, session_id: str, credential: str) -> None:
    """Use a session in every way, and make mistakes with the credential in odd places."""
    url = f"{SESSIONS}/{session_id}"
    for path in ("", "/messages", "/events", f"/events?token={credential}", "/tokens"):
        await call("GET", f"{url}{path}", headers=headers)
    await call("GET", f"{url}/events?token={credential}")
    for suffix in ("/renew", "/heartbeat"):
        await call("POST", url + suffix, headers=headers | {"Idempotency-Key": "once"})
    message: dict[str, Any] = {"content": "Hello"}
    for body in (message, message, {"content": 7}, {"content": "x" * 5000}):
        await call("POST", f"{url}/messages", json=body, headers=headers)
    json_type = {"Content-Type": "application/json"}
    for data in (
        credential,
        f'{{"content": "{credential}',
        f'{{"{credential}": NaN}}',
        "x" * 300000,
    ):
        with suppress(ConnectionError):
            await call("POST", f"{url}/messages", data=data, headers=headers | json_type)
    await call("POST", f"{url}/messages", data=credential, headers=headers)
    await call("PATCH", url, json={"metadata": {"a": 1}}, headers=headers)
    await call("PATCH", f"{url}/timeout", json={"timeoutMinutes": 7}, headers=headers)
    for path in (SESSIONS, f"{SESSIONS}?limit=x", f"{SESSIONS}/health", EVENTS, WEBHOOKS):
        await call("GET", path, headers=headers)
    await call("GET", f"{SESSIONS}/{credential}", headers=headers)
    await call("GET", f"/{credential}", headers=headers)
    await call("DELETE", f"{SESSIONS}?userId={BOB}", headers=headers | {"Idempotency-Key": "bulk"})
    await call("DELETE", f"{SESSIONS}/{UNKNOWN}", headers=headers)
    for wrong in (
        headers | {"X-API-KEY": credential, "Authorization": f"Bearer {credential}"},
        bearer(f"{credential}x"),
        {"X-API-KEY": credential[:-1]},
        {"Authorization": f"Basic {credential}"},
        {"X-API-KEY": credential, "Host": "elsewhere.example.org"},
        headers | {"Idempotency-Key": "é"},
    ):
        await call("GET", url, headers=wrong)
        await call("DELETE", f"{SESSIONS}?all=true", headers=wrong)


async def use_sockets(service: ServiceProcess, session_id: str, credential: str) -> None:
    """Connect by both transports, with the credential and with a wrong one; join and send."""
    for transport in ("websocket", "polling"):
        for token in (credential, f"{credential}x"):
            socket = socketio.AsyncSimpleClient(reconnection=False)
            with suppress(socketio.exceptions.SocketIOError):
                await socket.connect(
                    f"http://127.0.0.1:{service.port}",
                    auth={"token": token},
                    headers={"X-API-KEY": token} if transport == "polling" else {},
                    transports=[transport],
                )
                await socket.call("join", {"sessionId": session_id}, timeout=5)
                await socket.call("message", {"type": 9, "payload": token}, timeout=5)
            await socket.disconnect()


async def speak_badly(service: ServiceProcess, credential: str) -> None:
    """Send requests that are not valid HTTP, with the credential in them."""
    for request in (
        f"GET /{credential} HTTP/9.9\r\n\r\n",
        f"GET / HTTP/1.1\r\n{credential}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-API-KEY: {credential}\r\nContent-Length: {credential}\r\n\r\n",
        f"{credential}\r\n\r\n",
    ):
        async with await Raw.to(service.port) as raw:
            raw.send(request.encode())
            assert credential.encode() not in await raw.rest()


def stored(store: Redis) -> dict[str, str]:
    """Return everything in a store, by the names of its keys."""
    read: dict[bytes, Callable[[bytes], object]] = {
        b"string": store.get,
        b"hash": store.hgetall,
        b"set": store.smembers,
        b"zset": lambda key: store.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: store.lrange(key, 0, -1),
        b"stream": store.xrange,
    }
    kinds: dict[bytes, Any] = {key: store.type(key) for key in store.scan_iter()}
    return {repr(key): repr(read[kind](key)) for key, kind in kinds.items()}


def commands_of(pid: int) -> dict[str, str]:
    """Return the command lines of a process and all its descendants, by process id."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return {str(each): Path(f"/proc/{each}/cmdline").read_text() for each in found}


def kind_of(name: str) -> str:
    """Return the kind of a key, e.g. ``claim`` of ``b'session-service:{50}:claim:50ec…'``."""
    return name.strip("b'").split(":")[2]


def leaks(canaries: dict[str, str], texts: dict[str, str]) -> set[tuple[str, str]]:
    """Return the names of the canaries in texts, each with the name of the text."""
    return {
        (name, where)
        for where, text in texts.items()
        for name, canary in canaries.items()
        if canary in text
    }


async def use_as_all_callers(call: Caller, service: ServiceProcess, *credentials: str) -> list[str]:
    """Use the service with each credential and with session tokens; return these."""
    page_tokens = []
    for credential in credentials:
        headers = bearer(credential) if "." in credential else {"X-API-KEY": credential}
        session_id = await create(call, headers)
        url = f"{SESSIONS}/{session_id}"
        scopes = {"scopes": ["messages:read", "events:read"], "expiresInMinutes": 15}
        minted = await call("POST", f"{url}/tokens", json=scopes, headers=headers)
        page_token = json.loads(minted)["token"]
        page_tokens.append(page_token)
        await use(call, headers, session_id, credential)
        await use_sockets(service, session_id, credential)
        await use(call, bearer(page_token), session_id, page_token)
        await use_sockets(service, session_id, page_token)
        await speak_badly(service, credential)
        await call("DELETE", url, headers=headers | {"Idempotency-Key": "end"})
    page = {"X-API-KEY": AUTH_TOKEN, "Origin": f"http://127.0.0.1:{service.port}"}
    for _ in range(2):
        await call("POST", SESSIONS, json={"userId": ANN, "agentId": AGENT}, headers=page)
    return page_tokens


async def use_webhooks(call: Caller, headers: Headers) -> None:
    """Register, read, test and change a webhook, with an Idempotency-Key as well."""
    body = {"url": f"https://hooks.example.org/?key={IN_URL}", "secret": REGISTERED}
    for options in ({}, {"Idempotency-Key": "hook"}, {"Idempotency-Key": "hook"}):
        webhook = json.loads(await call("POST", WEBHOOKS, json=body, headers=headers | options))
        url = f"{WEBHOOKS}/{webhook['webhookId']}"
        await call("GET", url, headers=headers)
        await call("POST", f"{url}/dead/replay", json={}, headers=headers)
        await call("POST", f"{url}/test", json={"type": "ended"}, headers=headers)
        await call("POST", f"{url}/rotate", json={"secret": REGISTERED}, headers=headers)
        await call("POST", f"{url}/rotate", json={"secret": IN_URL}, headers=headers)
        await call("DELETE", url, headers=headers)


async def be_refused_by_the_store(call: Caller, store: Redis) -> None:
    """Make requests while the store refuses the service's password."""
    store.config_set("requirepass", "another")
    for each in store.client_list(_type="normal"):
        if each["id"] != str(store.client_id()):
            store.client_kill_filter(_id=each["id"])
    for _ in range(3):
        await call("GET", f"{SESSIONS}/{UNKNOWN}", headers={"X-API-KEY": AUTH_TOKEN})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_secret_is_shown_or_stored(
    start: Start, store: Redis, receiver: Receiver, settings: dict[str, str], *, workers: int
) -> None:
    """With every kind of request and error, no canary is anywhere but where it has to be.

    The URLs and secrets of webhooks are in the store, to sign deliveries on each node, and in the
    responses that register them or rotate their secrets, which an Idempotency-Key records. A
    session token is in the response that creates it.
    """
    endpoints = [
        {"url": f"{receiver.url}?key={IN_URL}", "secret": SECRET},
        {"url": f"http://127.0.0.1:1/{IN_URL}", "secret": SECRET},
    ]
    settings |= {"SESSION_WEBHOOKS": json.dumps(endpoints), "WEB_CONCURRENCY": str(workers)}
    service = start(**settings)
    tmp_path = Path(settings["REDIS_URL_FILE"]).parent
    made = run(tmp_path, "keys", "create", "billing", "--scopes", SCOPES, **settings)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    async with service.client() as client:
        call = Caller(client)
        of_user = user_token(ANN)
        of_pages = await use_as_all_callers(call, service, key, AUTH_TOKEN, of_user)
        await use_webhooks(call, {"X-API-KEY": key})
        await wait_until(lambda: receiver.received, 10, description="a delivery")
        kept, commands = stored(store), commands_of(service.pid)
        await be_refused_by_the_store(call, store)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0

    canaries = {
        "password": PASSWORD,
        "auth token": AUTH_TOKEN,
        "JWT secret": JWT_SECRET,
        "session tokens": TOKEN_SECRET,
        "session tokens before": OLD_SECRET,
        "webhook": SECRET,
        "registered webhook": REGISTERED,
        "URL": IN_URL,
        "key": key.removeprefix(f"ssk_{key[KEY_ID]}_"),
        "user token": of_user[-20:],
        **{f"page token {n}": token[-20:] for n, token in enumerate(of_pages)},
    }
    assert call.statuses >= {200, 201, 400, 401, 403, 404, 405, 413, 415, 429, 503}
    logs = {"stdout": service.stdout, "stderr": service.stderr, "keys": made.stderr}
    assert leaks(canaries, logs) == set()
    assert len(commands) == (1 if workers == 1 else 1 + workers)
    assert leaks(canaries, commands) == set()
    shown = set().union(*(leaks(canaries, {where: text}) for where, text in call.responses))
    assert {(name, ID_IN_PATH.sub("…", where)) for name, where in shown} == {
        *((f"page token {n}", f"POST {SESSIONS}/…/tokens") for n in range(3)),
        ("registered webhook", f"POST {WEBHOOKS}"),
        ("registered webhook", f"POST {WEBHOOKS}/…/rotate"),
        ("URL", f"POST {WEBHOOKS}"),
        ("URL", f"GET {WEBHOOKS}"),
        ("URL", f"GET {WEBHOOKS}/…"),
    }
    assert {(name, kind_of(where)) for name, where in leaks(canaries, kept)} == {
        ("webhook", "webhooks"),
        ("URL", "webhooks"),
        ("registered webhook", "claim"),
        ("URL", "claim"),
    }


async def test_a_defect_shows_no_secret(tmp_path: Path) -> None:
    """The trace of a defect in the log, and the response, do not have the request's credential."""
    settings = {"REDIS_URL": "memory://", "ELIZA_SERVER_AUTH_TOKEN": AUTH_TOKEN}
    program = ("tests.support.defective_service",)
    with ServiceProcess(tmp_path, program=program, LOG_LEVEL="debug", **settings) as service:
        async with service.client() as client:
            call = Caller(client)
            await call("GET", f"{SESSIONS}/{UNKNOWN}", headers={"X-API-KEY": AUTH_TOKEN})
            await call("GET", f"{SESSIONS}/{UNKNOWN}", headers=bearer(AUTH_TOKEN))
    assert call.statuses == {500}
    assert [each["event"] for each in service.log].count("defect") == 2
    assert AUTH_TOKEN not in service.stderr + "".join(text for _, text in call.responses)


async def test_no_secret_is_on_a_command_line(start: Start, tmp_path: Path) -> None:
    """Neither workers nor the embedded store have a secret on their command line or in a log."""
    endpoints = [{"url": f"http://127.0.0.1:1/{IN_URL}", "secret": SECRET}]
    service = start(
        SESSION_DATA_DIR=str(tmp_path / "data"),
        WEB_CONCURRENCY="2",
        LOG_LEVEL="debug",
        ELIZA_SERVER_AUTH_TOKEN=AUTH_TOKEN,
        SESSION_TOKEN_SECRET=TOKEN_SECRET,
        SESSION_WEBHOOKS=json.dumps(endpoints),
    )
    assert service.port
    commands = commands_of(service.pid)
    assert str(service.store_pid) in commands
    assert len(commands) >= 4
    canaries = {each: each for each in (AUTH_TOKEN, TOKEN_SECRET, IN_URL, SECRET)}
    store_log = (tmp_path / "data" / "store.log").read_text()
    texts = {"stderr": service.stderr, "stdout": service.stdout, "store.log": store_log}
    assert leaks(canaries, commands | texts) == set()
