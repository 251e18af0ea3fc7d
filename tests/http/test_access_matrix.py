"""The matrix of access control: every route, by every credential, on a session in every state.

A second model of the policy, ``expected``, computes the status of each response. It shares nothing
with the service but the table of routes. The summary of a run prints the counts.
"""

import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import socketio
from msgspec.structs import replace

from session_service.access.authenticator import Authenticator
from session_service.access.jwks import KeySet
from session_service.access.jwt import JwtVerifier
from session_service.access.key_ring import ApiKeys
from session_service.access.session_tokens import SessionTokens
from session_service.access_settings import JwtSettings, Secret
from session_service.api.errors import ErrorCode
from session_service.composition import Store
from session_service.domain.credentials import ALL_PERMISSIONS, Credential, Kind, Permission
from session_service.domain.errors import SessionExpired
from session_service.domain.messages import NewMessage
from session_service.domain.sessions import NewSession, Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.web.http.state import AppState
from session_service.web.rest.route import Public, Route
from session_service.web.rest.table import routes_of
from tests.support import jwts
from tests.support.api import Client
from tests.support.service import app_state
from tests.support.waiting import wait_until

ROUTES = routes_of(with_session_tokens=True)
FORGING = SessionTokens((Secret("f" * 32),), ApiKeys.__new__(ApiKeys))
SECRET = Secret("s" * 32)

ANN, BOB = str(uuid.uuid4()), str(uuid.uuid4())
AGENT, OTHER_AGENT = str(uuid.uuid4()), str(uuid.uuid4())

# Valid requests to the operations that have a body or need a query, by operation id.
BODIES: dict[str, Any] = {
    "createSession": {"userId": ANN, "agentId": AGENT},
    "createSessionToken": {"scopes": ["messages:read"]},
    "createWebhook": {"url": "https://hooks.example/sessions"},
    "replayDeadLetters": {},
    "rotateWebhookSecret": {},
    "testWebhook": {"type": "created"},
    "sendSessionMessage": {"content": "Hello"},
    "updateSession": {"metadata": {"a": 1}},
    "updateSessionTimeout": {"timeoutMinutes": 10},
}
QUERIES = {"endSessions": f"?userId={ANN}"}

STATUS_OF = {code.value: code.status for code in ErrorCode}
STATES = ("live", "expired", "ended", "never existed", "retained")
SCOPES_OF_USERS = {
    "sessions:read", "sessions:write", "messages:read", "messages:write", "events:read"
}  # fmt: skip


class Caller(NamedTuple):
    """A credential of the matrix: how it is sent, and the facts that decide what it may do."""

    headers: dict[str, str]
    status: int = 200  # 401 or 400 if it is not accepted at all
    is_owner: bool = True  # whether Ann's session with AGENT is its own
    is_page: bool = False
    scopes: frozenset[str] = frozenset(ALL_PERMISSIONS)
    user: str | None = None
    agent: str | None = None


def expected(route: Route, caller: Caller, state: str) -> int:
    """Return the status of a response, by the rules of access control and the contract."""
    if isinstance(route.access, Public):
        return 200
    if caller.status != 200:
        return caller.status
    if str(route.access) not in caller.scopes or (caller.is_page and not route.ids):
        return 403
    if route.operation_id == "createSessionToken" and caller.is_page:
        return 403
    if route.ids == ("webhookId",):
        return 404
    if route.ids == ("channelId",):
        return 200 if state == "retained" and caller.is_owner and not caller.is_page else 404
    if not route.ids:
        names_others = caller.user not in (None, ANN) or caller.agent not in (None, AGENT)
        if route.operation_id == "createSession":
            return 403 if names_others else 201
        if route.operation_id == "endSessions":
            return 403 if caller.user not in (None, ANN) else 200
        return route.status
    if state == "live" and caller.is_owner:
        return route.status
    return 410 if state == "expired" and caller.is_owner and route.method != "DELETE" else 404


def key(text: str) -> dict[str, str]:
    return {"X-API-KEY": text}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def users(**changed: Any) -> dict[str, str]:
    """Return the fields of a request with a JWT, by default Ann's."""
    return bearer(jwts.token(**{"key": "rsa", "algorithm": "RS256", "sub": ANN, **changed}))


_LONG = TimeoutConfig(1_800_000, True, 43_200_000, 300_000)
_SHORT = TimeoutConfig(30, True, 30, 1)
NEVER = NewSession(AGENT, ANN, _LONG, b"{}").created("3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836", 0)


class Matrix:
    """A service with real keys, JWTs and session tokens, and sessions of Ann with AGENT."""

    def __init__(self, store: Store, registry: ApiKeyRegistry, tokens: SessionTokens) -> None:
        self.store = store
        self._registry = registry
        self._tokens = tokens
        self._keys: dict[str, str] = {}
        self._callers: dict[str, Caller] = {}

    async def make_keys(self) -> None:
        """Create the API keys."""
        scopes = frozenset(ALL_PERMISSIONS)
        reading = frozenset((Permission.SESSIONS_READ,))
        for name, permissions, agents, expires_in_ms in (
            ("valid", scopes, None, None),
            ("bound", scopes, frozenset((AGENT,)), None),
            ("other agent's", scopes, frozenset((OTHER_AGENT,)), None),
            ("missing scope", reading, None, None),
            ("revoked", scopes, None, None),
            ("expired", scopes, None, 1),
        ):
            added = await self._registry.add(name, permissions, agents, expires_in_ms)
            assert added is not None
            self._keys[name] = added[1]
            if name == "revoked":
                await self._registry.revoke(added[0].id)
        self._callers = dict(self._lasting_callers())

    def text_of(self, name: str) -> str:
        """Return an API key."""
        return self._keys[name]

    async def session(self, state: str) -> Session | None:
        """Return a new session of Ann in a state; None if it never existed."""
        if state == "never existed":
            return None
        timeout = _SHORT if state == "expired" else _LONG
        new = NewSession(AGENT, ANN, timeout, b"{}")
        session = await self.store.repository.create(new)
        if state == "retained":
            await self.store.repository.send(session.id, NewMessage("Hello", None, b"{}", None))
        if state in ("ended", "retained"):
            await self.store.repository.end(session.id)
        if state == "ended":
            await self.store.repository.erase_history(session.id)
        return session

    def callers(self, session: Session) -> dict[str, Caller]:
        """Return every credential, for a request that concerns a session of Ann."""
        scopes = frozenset(SCOPES_OF_USERS)
        other, forged = self._page(session, other=True), self._page(session, forged=True)
        return {
            **self._callers,
            "another session's token": Caller(other, is_owner=False, is_page=True, scopes=scopes),
            "forged token": Caller(forged, 401),
            "valid: page": Caller(self._page(session), is_page=True, scopes=scopes),
        }

    def _lasting_callers(self) -> Iterator[tuple[str, Caller]]:
        """Yield the credentials that are the same for each session."""
        keys = self._keys
        refused = Caller({}, 401)
        yield "none", refused
        yield "malformed", refused._replace(headers=bearer("ssk_x"))
        unknown = keys["valid"][:4] + ("a" if keys["valid"][4] != "a" else "b") + keys["valid"][5:]
        yield "unknown", refused._replace(headers=key(unknown))
        for name in ("revoked", "expired"):
            yield name, refused._replace(headers=key(keys[name]))
        yield "expired JWT", refused._replace(headers=users(exp=int(time.time()) - 60))
        yield "wrong issuer", refused._replace(headers=users(iss="https://other.example.org/"))
        yield "wrong audience", refused._replace(headers=users(aud="https://other.example.org"))
        claims = jwts.claims(sub=ANN)
        none = jwts.assemble({"alg": "none", "kid": "k1"}, claims)
        yield "alg none", refused._replace(headers=bearer(none))
        confused = jwts.sign(claims, jwts.public_pem(), {"kid": "k1"})
        yield "HS256 by the public key", refused._replace(headers=bearer(confused))
        yield "unknown kid", refused._replace(headers=users(headers={"kid": "k2"}))
        yield "two at once", Caller({**key(keys["valid"]), **users()}, 400)
        yield (
            "another agent's key",
            Caller(key(keys["other agent's"]), is_owner=False, agent=OTHER_AGENT),
        )
        scopes = frozenset(SCOPES_OF_USERS)
        yield "another user", Caller(users(sub=BOB), is_owner=False, scopes=scopes, user=BOB)
        reading = frozenset(("sessions:read",))
        yield "missing scope", Caller(key(keys["missing scope"]), scopes=reading)
        yield "valid: key", Caller(key(keys["valid"]))
        yield "valid: bound key", Caller(bearer(keys["bound"]), agent=AGENT)
        yield "valid: user", Caller(users(), scopes=scopes, user=ANN)

    def _page(
        self, session: Session, *, other: bool = False, forged: bool = False
    ) -> dict[str, str]:
        """Return the fields of a request with a token for a session, or for another of Ann's."""
        tokens = FORGING if forged else self._tokens
        if other:
            session = replace(session, id=session.id[:-12] + "0" * 12)
        credential = Credential(
            kind=Kind.KEY, id=self._keys["valid"][4:12], name="", permissions=ALL_PERMISSIONS
        )
        scopes = frozenset(map(Permission, SCOPES_OF_USERS))
        expires = time.time_ns() // 1_000_000 + 60_000
        return bearer(tokens.mint(credential, session, scopes, expires))


@pytest.fixture
async def issuer() -> AsyncIterator[jwts.KeySetEndpoint]:
    endpoint = jwts.KeySetEndpoint(jwts.jwk())
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


@pytest.fixture
def keys(store: Store) -> ApiKeys:
    return store.api_keys


@pytest.fixture
def tokens(keys: ApiKeys) -> SessionTokens:
    return SessionTokens((SECRET,), keys)


@pytest.fixture
def service(
    store: Store, keys: ApiKeys, tokens: SessionTokens, issuer: jwts.KeySetEndpoint
) -> AppState:
    settings = JwtSettings(key_set_url=issuer.url, issuer=jwts.ISSUER, audience=jwts.AUDIENCE)
    verifier = JwtVerifier(settings, KeySet(issuer.url))
    access = Authenticator(keys=keys, sessions=tokens, jwts=verifier)
    return app_state(store, access=access, session_tokens=tokens)


@pytest.fixture
async def matrix(store: Store, keys: ApiKeys, tokens: SessionTokens) -> Matrix:
    registry = ApiKeyRegistry(store.executor, store.keys, store.quarantine)
    matrix = Matrix(store, registry, tokens)
    await matrix.make_keys()
    await keys.refresh()
    expired = matrix.text_of("expired")
    await wait_until(lambda: keys.find(expired, time.time_ns() // 1_000_000) is None)
    return matrix


async def answer(
    client: Client, route: Route, caller: Caller, session: Session
) -> tuple[int, dict[str, str], str]:
    """Return the status, the fields that may differ, and the body of a response."""
    path = route.path
    for name in route.ids:
        path = path.replace(f"{{{name}}}", session.id)
    name = route.operation_id
    async with client.request(
        route.method, path + QUERIES.get(name, ""), json=BODIES.get(name), headers=caller.headers
    ) as response:
        fields = {n: v for n, v in response.headers.items() if n not in ("Date", "X-Request-ID")}
        is_stream = response.status == 200 and route.streams
        return response.status, fields, "" if is_stream else await response.text()


@pytest.fixture
def history_ms() -> int:
    return 600_000


async def is_expired(store: Store, session_id: str) -> bool:
    try:
        await store.repository.get(session_id)
    except SessionExpired:
        return True
    return False


@pytest.mark.parametrize("state", STATES)
async def test_every_credential_gets_what_the_policy_says(
    client: Client, matrix: Matrix, state: str
) -> None:
    """Each cell has the expected status, and a 404 is the same as for a session that never was."""
    session = await matrix.session(state) or NEVER
    if state == "expired":
        await wait_until(lambda: is_expired(matrix.store, session.id))
    counts: Counter[tuple[str, int]] = Counter()
    for route in ROUTES:
        if not route.ids and state != "live":
            continue
        for name in matrix.callers(NEVER):
            if state in ("live", "retained"):  # the last request may have changed it
                session = await matrix.session(state) or NEVER
            caller = matrix.callers(session)[name]
            wanted = expected(route, caller, state)
            found = await answer(client, route, caller, session)
            cell = f"{route.method} {route.path} by {name}, {state}"
            assert found[0] == wanted, (cell, found)
            if wanted == 404:
                assert found == await answer(client, route, caller, NEVER), cell
            counts[name, found[0]] += 1
    report(state, counts)


SOCKET_SECONDS = 10
# The events of sockets, with the scopes that each needs.
EVENTS = {"join": {"events:read", "messages:read"}, "2": {"messages:write"}}


def expected_of_socket(event: str, caller: Caller, state: str) -> int:
    """Return the status of the error in an acknowledgement, or 200, by the rules of the policy."""
    if not EVENTS[event] <= caller.scopes:
        return 403
    if not caller.is_owner or state in ("ended", "retained", "never existed"):
        return 404
    return 410 if state == "expired" else 200


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("state", STATES)
async def test_every_credential_of_a_socket_gets_what_the_policy_says(
    client: Client, matrix: Matrix, state: str, transport: str
) -> None:
    """The same by the events of sockets: those that do not connect, and those that do."""
    session = await matrix.session(state) or NEVER
    if state == "expired":
        await wait_until(lambda: is_expired(matrix.store, session.id))
    counts: Counter[tuple[str, int]] = Counter()
    url = f"http://127.0.0.1:{client.port}"
    for name, caller in matrix.callers(session).items():
        is_refused = caller.status != 200
        if is_refused and (transport == "polling" or state != "live"):
            continue  # a refusal does not depend on them, and takes a client a second
        socket = socketio.AsyncClient(reconnection=False)
        if is_refused:
            with pytest.raises(socketio.exceptions.ConnectionError):
                await connect(socket, url, caller, transport)
            counts[name, 401] += 1
            continue
        await connect(socket, url, caller, transport)
        for event in EVENTS:
            answers = []
            for session_id in (session.id, NEVER.id):
                payload = {"channelId": session_id, "message": "Hello"}
                answers.append(await socket.call(event, payload))
            found = STATUS_OF.get(answers[0].get("error", {}).get("code", ""), 200)
            wanted = expected_of_socket(event, caller, state)
            assert found == wanted, (event, name, state, answers)
            assert wanted != 404 or answers[0] == answers[1], (event, name, state)
            counts[name, found] += 1
        await socket.disconnect()
    report(f"{state}, {transport}", counts)


async def connect(socket: socketio.AsyncClient, url: str, caller: Caller, transport: str) -> None:
    """Connect as a caller; by default the client waits a second, too short if much runs."""
    await socket.connect(
        url, auth=auth_of(caller), transports=[transport], wait_timeout=SOCKET_SECONDS
    )


def auth_of(caller: Caller) -> dict[str, str]:
    """Return the ``auth`` with which a client of Socket.IO sends a credential, or two."""
    key = caller.headers.get("X-API-KEY")
    token = caller.headers.get("Authorization", "").removeprefix("Bearer ")
    return {
        name: text
        for name, text in (("apiKey", key), ("token", token))
        if text is not None and text
    }


def report(state: str, counts: Counter[tuple[str, int]]) -> None:
    """Print a table of the statuses that each credential got; visible with ``pytest -s``."""
    statuses = sorted({status for _, status in counts})
    rows: list[tuple[str, list[object]]] = [(state, [*statuses])]
    rows += [
        (name, [counts[name, status] or "" for status in statuses])
        for name in dict.fromkeys(name for name, _ in counts)
    ]
    lines = [f"{name:24}" + "".join(f"{cell:>6}" for cell in cells) for name, cells in rows]
    sys.stdout.write("\n" + "\n".join(lines) + f"\n{counts.total()} requests, 0 leaks\n")
