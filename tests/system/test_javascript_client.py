"""The published JavaScript client, unchanged, against the running service."""

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import SESSIONS
from tests.support.npm import JS
from tests.support.processes import ServiceProcess, Start, run
from tests.support.published import published
from tests.support.tools import need
from tests.support.waiting import wait_until

PACKAGE = "@elizaos/api-client@1.7.2"
SHA512 = "1v0fBpzHrUUfl1kUUuLuma7r5VSdB2bf8prnGyGsrwbBOMDTZencr6inwm/NIpzXmzJFv8Q++x0paLd0PoYqBA=="
SCRIPT = JS / "call.mjs"

AGENT, USER = "b850bc30-45f8-0041-a00a-83df46d8555d", "6f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90"
SERVERS_KEY = "the key that all servers of this family have"
PARTIES = {"agentId": AGENT, "userId": USER}
UNKNOWN = "3f000000-0000-4000-8000-000000000000"

# A call is a method's name and arguments; an outcome is its result or error.
Call = tuple[Any, ...]


@pytest.fixture(scope="session")
def bundle(pytestconfig: pytest.Config) -> Path:
    """The client's bundle, which runs by itself."""
    need("node")
    (module,) = published(pytestconfig, PACKAGE, SHA512, "dist/index.js")
    file = pytestconfig.cache.mkdir("javascript-client") / "client.mjs"
    file.write_bytes(module)
    return file


@pytest.fixture
def service(start: Start, store_url: str) -> ServiceProcess:
    """A service whose sessions may expire at once."""
    return start(REDIS_URL=store_url, SESSION_MIN_TIMEOUT_MINUTES="0.0001")


def outcomes(
    bundle: Path, service: ServiceProcess, calls: list[Call], api_key: str | None = None
) -> list[dict[str, Any]]:
    """Make calls one after the other with the client; return their outcomes."""
    options = [] if api_key is None else [api_key]
    url = f"http://127.0.0.1:{service.port}"
    done = subprocess.run(
        ["node", SCRIPT, bundle, url, json.dumps(calls), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def values(bundle: Path, service: ServiceProcess, *calls: Call) -> list[Any]:
    """Make calls that return; return their values."""
    return [outcome["returned"] for outcome in outcomes(bundle, service, list(calls))]


def calls_on(session_id: str) -> list[Call]:
    """Return a call of each method that takes a session."""
    return [
        ("getSession", session_id),
        ("sendMessage", session_id, {"content": "Hello"}),
        ("sendMessageSync", session_id, {"content": "Hello"}),
        ("getMessages", session_id),
        ("deleteSession", session_id),
    ]


async def test_a_session_is_created_read_listed_and_ended(
    service: ServiceProcess, bundle: Path
) -> None:
    """Session, listing, health and end are as documented."""
    (created,) = values(bundle, service, ("createSession", {**PARTIES, "metadata": {"a": 1}}))
    session_id = created["sessionId"]
    got, listed = values(bundle, service, ("getSession", session_id), ("listSessions",))

    def counted() -> Any:
        (health,) = values(bundle, service, ("checkHealth",))
        return health["activeSessions"] and health

    health = await wait_until(counted)  # its counts may be a second old
    (ended,) = values(bundle, service, ("deleteSession", session_id))
    assert {name: created[name] for name in PARTIES} == PARTIES
    assert created["metadata"] == {"a": 1}
    assert created["timeoutConfig"] == {
        "timeoutMinutes": 30,
        "autoRenew": True,
        "maxDurationMinutes": 720,
        "warningThresholdMinutes": 5,
    }
    assert created.items() <= got.items()
    assert got["lastActivity"] == created["createdAt"]
    assert (got["renewalCount"], got["isNearExpiration"]) == (0, False)
    assert 0 < got["timeRemaining"] <= 30 * 60_000
    assert [session["sessionId"] for session in listed["sessions"]] == [session_id]
    assert (listed["total"], listed["nextCursor"]) == (1, None)
    assert listed["stats"] == {"totalSessions": 1, "activeSessions": 1, "expiredSessions": 0}
    assert (health["status"], health["activeSessions"], health["expiringSoon"]) == ("healthy", 1, 0)
    assert ended == {"message": "Session ended successfully"}


@pytest.mark.parametrize("method", ["sendMessage", "sendMessageSync"])
def test_a_message_is_sent(service: ServiceProcess, bundle: Path, method: str) -> None:
    """Both ways to send return the message in the client's type, and the session's status."""
    message = {
        "content": "Hello",
        "metadata": {"priority": "high", "tags": ["a", "b"]},
        "attachments": [{"type": "image", "url": "https://example.org/a.png", "size": 3}],
    }
    (created,) = values(bundle, service, ("createSession", PARTIES))
    (sent,) = values(bundle, service, (method, created["sessionId"], message))
    assert message.items() <= sent["userMessage"].items()
    assert sent["userMessage"]["authorId"] == USER
    assert sent["userMessage"]["createdAt"] > created["createdAt"]
    assert {name: sent[name] for name in message} == message
    status = sent["sessionStatus"]
    assert status["expiresAt"] > created["expiresAt"]
    assert (status["renewalCount"], status["wasRenewed"]) == (1, True)
    assert status["isNearExpiration"] is False


def test_messages_are_read_page_by_page(service: ServiceProcess, bundle: Path) -> None:
    """A page takes a limit, and before and after as a Date, a text or a number."""
    (created,) = values(bundle, service, ("createSession", PARTIES))
    session_id = created["sessionId"]
    sent = values(
        bundle,
        service,
        *(("sendMessage", session_id, {"content": text}) for text in ("one", "two", "three")),
    )
    first, _, third = (message["createdAt"] for message in sent)
    number = int(datetime.fromisoformat(first).timestamp() * 1000)
    pages = values(
        bundle,
        service,
        ("getMessages", session_id),
        ("getMessages", session_id, {"limit": 2}),
        ("getMessages", session_id, {"before": {"Date": third}}),
        ("getMessages", session_id, {"before": third, "limit": 1}),
        ("getMessages", session_id, {"after": number, "before": third}),
        ("getMessages", session_id, {"after": first, "limit": 1}),
    )
    assert [([m["content"] for m in page["messages"]], page["hasMore"]) for page in pages] == [
        (["three", "two", "one"], False),
        (["three", "two"], True),
        (["two", "one"], False),
        (["two"], True),
        (["two"], False),
        (["two"], True),
    ]
    newest = pages[0]["messages"][0]
    assert newest == {
        "id": sent[2]["id"],
        "content": "three",
        "authorId": USER,
        "isAgent": False,
        "createdAt": third,
        "metadata": {},
    }


def assert_all_thrown(found: list[dict[str, Any]], status: int, code: str) -> None:
    """Check that every call threw the client's typed error, with details as a string."""
    assert [outcome["thrown"]["status"] for outcome in found] == [status] * len(found)
    assert [outcome["thrown"]["code"] for outcome in found] == [code] * len(found)
    for outcome in found:
        assert isinstance(outcome["thrown"]["message"], str)
        assert isinstance(outcome["thrown"]["details"], str)


def test_no_method_finds_a_session_that_is_not_there(service: ServiceProcess, bundle: Path) -> None:
    """A session that never existed or has ended is a 404 to every method."""
    (created,) = values(bundle, service, ("createSession", PARTIES))
    values(bundle, service, ("deleteSession", created["sessionId"]))
    calls = calls_on(UNKNOWN) + calls_on(created["sessionId"])
    assert_all_thrown(outcomes(bundle, service, calls), 404, "SESSION_NOT_FOUND")


async def test_a_session_that_has_run_out_is_gone(service: ServiceProcess, bundle: Path) -> None:
    """An expired session is a 410 to every method, and a 404 to deleteSession."""
    brief = {**PARTIES, "timeoutConfig": {"timeoutMinutes": 0.0001}}
    (created,) = values(bundle, service, ("createSession", brief))
    async with service.client() as client:

        async def has_run_out() -> bool:
            async with client.get(f"{SESSIONS}/{created['sessionId']}") as response:
                return response.status == 410

        await wait_until(has_run_out)
    *others, delete = outcomes(bundle, service, calls_on(created["sessionId"]))
    assert_all_thrown(others, 410, "SESSION_EXPIRED")
    assert_all_thrown([delete], 404, "SESSION_NOT_FOUND")


def test_what_is_out_of_range_is_refused(service: ServiceProcess, bundle: Path) -> None:
    """A value out of range is a 400 that names the field."""
    (created,) = values(bundle, service, ("createSession", PARTIES))
    session_id = created["sessionId"]
    calls: list[Call] = [
        ("createSession", {**PARTIES, "agentId": "nobody"}),
        ("sendMessage", session_id, {"content": "x" * 4001}),
        ("sendMessageSync", session_id, {"content": "x", "metadata": []}),
        ("getMessages", session_id, {"limit": 101}),
    ]
    found = outcomes(bundle, service, calls)
    assert_all_thrown(found, 400, "VALIDATION_ERROR")
    assert [outcome["thrown"]["details"] for outcome in found] == [
        "agentId", "content", "metadata", "limit"
    ]  # fmt: skip


def test_every_method_tells_that_the_store_is_away(start: Start, bundle: Path) -> None:
    """Without its store the service is a 503 to every method, the health check included."""
    service = start(REDIS_URL="redis://127.0.0.1:1/0")
    calls = [("createSession", PARTIES), ("listSessions",), ("checkHealth",), *calls_on(UNKNOWN)]
    assert_all_thrown(outcomes(bundle, service, calls), 503, "STORE_UNAVAILABLE")


class TestWithAccessControl:
    """The client with its option ``apiKey``, against a service whose access control is on."""

    @pytest.fixture
    def service(self, start: Start, store_url: str) -> ServiceProcess:
        return start(REDIS_URL=store_url, ELIZA_SERVER_AUTH_TOKEN=SERVERS_KEY)

    @pytest.fixture(params=["a key", "ELIZA_SERVER_AUTH_TOKEN"])
    def api_key(self, request: pytest.FixtureRequest, store_url: str, tmp_path: Path) -> str:
        """An API key with the scopes that the client needs, or the one of the environment."""
        if request.param != "a key":
            return SERVERS_KEY
        scopes = "sessions:read,sessions:write,messages:read,messages:write"
        done = run(tmp_path, "keys", "create", "web", "--scopes", scopes, REDIS_URL=store_url)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    async def test_every_method_works_with_its_api_key(
        self, service: ServiceProcess, bundle: Path, api_key: str
    ) -> None:
        """The client with a key creates, lists, reads, writes, and ends."""

        def call(*calls: Call) -> list[dict[str, Any]]:
            return outcomes(bundle, service, list(calls), api_key)

        async def is_known() -> dict[str, Any] | None:
            (outcome,) = call(("createSession", PARTIES))
            return outcome.get("returned")

        created = await wait_until(is_known)  # nodes read the keys once a second
        assert created is not None
        calls = [("listSessions",), ("checkHealth",), *calls_on(created["sessionId"])]
        done = call(*calls)
        assert ["returned" in each for each in done] == [True] * len(calls)
        assert done[-1]["returned"] == {"message": "Session ended successfully"}

    @pytest.mark.parametrize("wrong", [None, "nobody", f"{SERVERS_KEY}x"])
    def test_every_method_is_refused_without_a_valid_key(
        self, service: ServiceProcess, bundle: Path, wrong: str | None
    ) -> None:
        """Without a key, or with another, every method throws a 401."""
        calls = [("createSession", PARTIES), ("listSessions",), ("checkHealth",)]
        found = outcomes(bundle, service, [*calls, *calls_on(UNKNOWN)], wrong)
        assert_all_thrown(found, 401, "UNAUTHORIZED")
