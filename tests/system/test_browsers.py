"""Real Chromium: pages of a listed origin, of another one, and of the service's own.

Names that end in ``.example`` lead to this machine, in this browser alone. A browser says by
``Sec-Fetch-Site`` from which site a request comes only if it trusts the connection, as it does that
to 127.0.0.1; under another name the service has to tell by ``Origin`` and ``Host``.
"""

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import SESSIONS, create, post
from tests.support.npm import JS, installed
from tests.support.processes import ServiceProcess, Start
from tests.support.published import published
from tests.support.tools import need

UNKNOWN = "3f000000-0000-4000-8000-000000000000"
ACCESS = {
    "ELIZA_SERVER_AUTH_TOKEN": "the key that all servers of this family have",
    "SESSION_TOKEN_SECRET": "a secret of thirty-two bytes or more",
}
NAMES = ("127.0.0.1", "sessions.example")


class Browser:
    """Chromium, and pages for it on every host name."""

    def __init__(self, node: "subprocess.Popen[str]", packages: Path, pages: int) -> None:
        self._node = node
        self._scripts = [
            str(packages / "node_modules/socket.io-client/dist/socket.io.js"),
            str(JS / "page.js"),
        ]
        self.pages = pages
        self.packages = packages

    async def call(
        self, url: str, name: str, *arguments: Any, scripts: list[str] | None = None
    ) -> Any:
        """Open a page and call one of its functions; return its result."""
        asked = {
            "url": url,
            "scripts": self._scripts if scripts is None else scripts,
            "call": name,
            "with": arguments,
        }
        response = json.loads(await asyncio.to_thread(self._ask, json.dumps(asked)))
        assert "returned" in response, response
        return response["returned"]

    async def at(self, host: str, name: str, *arguments: Any) -> Any:
        """Call a function of a page on a host."""
        return await self.call(f"http://{host}:{self.pages}/", name, *arguments)

    def _ask(self, line: str) -> str:
        assert self._node.stdin
        assert self._node.stdout
        self._node.stdin.write(line + "\n")
        self._node.stdin.flush()
        response = self._node.stdout.readline()
        assert response, "the browser has ended"
        return response


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title><body></body>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    need("chromium")
    chromium = shutil.which("chromium") or ""
    packages = installed(pytestconfig, "browsers")
    profile = tmp_path_factory.mktemp("profile")
    pages = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    node = subprocess.Popen(
        ["node", str(JS / "browse.mjs"), str(packages), chromium, str(profile)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield Browser(node, packages, pages.server_port)
    assert node.stdin
    assert node.stdout
    node.stdin.close()
    node.wait(30)
    node.stdout.close()
    pages.shutdown()
    pages.server_close()


@pytest.fixture
def service(start: Start, browser: Browser) -> ServiceProcess:
    """A service that allows the origin app.example and the host sessions.example."""
    return start(
        SESSION_CORS_ORIGINS=f"http://app.example:{browser.pages}",
        ALLOWED_HOSTS="sessions.example",
    )


@pytest.mark.parametrize("name", NAMES)
async def test_a_listed_page_uses_the_service(
    service: ServiceProcess, browser: Browser, name: str
) -> None:
    """A page of an allowed origin uses REST, EventSource and both Socket.IO transports."""
    url = f"http://{name}:{service.port}"
    assert await browser.at("app.example", "rest", url) == {
        "statuses": [201, 201, 200, 200, 200, 404],
        "readable": ["location", "x-request-id"],
        "gone": "SESSION_NOT_FOUND",
    }
    async with service.client() as client:
        session_id = (await create(client))["sessionId"]
    for transports in (None, ["polling"], ["websocket"]):
        outcome = await browser.at("app.example", "sockets", url, session_id, transports)
        assert outcome == {"text": "Hi", "clientMessageId": "mine"}
    followed = await browser.at("app.example", "events", url, session_id)
    assert followed["names"] == ["position", "session.message", "session.ended"]


@pytest.mark.parametrize("name", NAMES)
async def test_another_page_reads_nothing_and_changes_nothing(
    service: ServiceProcess, browser: Browser, name: str
) -> None:
    """Another page can neither read nor change, also by requests without preflight."""
    url = f"http://{name}:{service.port}"
    async with service.client() as client:
        session_id = (await create(client))["sessionId"]
        before = await state(client, session_id)
        assert await browser.at("evil.example", "rest", url) == {"refused": "TypeError"}
        followed = await browser.at("evil.example", "events", url, session_id)
        assert followed == {"names": [], "state": 2}
        for transports in (None, ["polling"], ["websocket"]):
            outcome = await browser.at("evil.example", "sockets", url, session_id, transports)
            assert set(outcome) == {"refused"}
        assert await browser.at("evil.example", "driveBy", url, session_id) == {
            "opened": "refused",
            "readable": 0,
        }
        assert await state(client, session_id) == before
    refused = [line for line in service.log if line["event"].startswith("origin refused")]
    values = {line["value"] for line in refused}
    assert f"'http://evil.example:{browser.pages}'" in values
    assert values <= {f"'http://evil.example:{browser.pages}'", "'not named'"}


async def test_a_name_that_leads_to_the_service_is_refused(
    service: ServiceProcess, browser: Browser
) -> None:
    """A page whose own name is pointed at the service (DNS rebinding) is refused."""
    async with service.client() as client:
        before = await state(client, (await create(client))["sessionId"])
        url = f"http://rebound.example:{service.port}/"
        assert await browser.call(url, "rebound") == [403, 403, 403]
        assert await state(client, before["session"]["sessionId"]) == before


@pytest.mark.parametrize("name", NAMES)
async def test_the_services_own_page_needs_no_setting(
    start: Start, browser: Browser, name: str
) -> None:
    """The service's own page works under the name that the browser uses."""
    service = start(ALLOWED_HOSTS="sessions.example")
    url = f"http://{name}:{service.port}"
    used = await browser.call(f"{url}/openapi.json", "rest", url)
    assert used["statuses"] == [201, 201, 200, 200, 200, 404]
    async with service.client() as client:
        session_id = (await create(client))["sessionId"]
    outcome = await browser.call(f"{url}/openapi.json", "sockets", url, session_id, None)
    assert outcome == {"text": "Hi", "clientMessageId": "mine"}


class TestSessionTokens:
    """A page that holds a session token, and the server that gives it one."""

    @pytest.fixture
    def service(self, start: Start, browser: Browser) -> ServiceProcess:
        return start(
            SESSION_CORS_ORIGINS=f"http://app.example:{browser.pages}",
            LOG_LEVEL="debug",
            **ACCESS,
        )

    async def test_a_page_uses_its_session_and_no_other(
        self, service: ServiceProcess, browser: Browser, tmp_path: Path
    ) -> None:
        """It reads, streams, writes and renews; other sessions are as if they had never been.

        The token is neither in the log nor in the store.
        """
        async with service.client() as client:
            client.headers["X-API-KEY"] = ACCESS["ELIZA_SERVER_AUTH_TOKEN"]
            session, other = await create(client), await create(client)
            path = f"{SESSIONS}/{session['sessionId']}"
            scopes = [
                "sessions:read",
                "sessions:write",
                "messages:read",
                "messages:write",
                "events:read",
            ]
            token = (await post(client, f"{path}/tokens", {"scopes": scopes}))["token"]
            url = f"http://127.0.0.1:{service.port}"
            before = await state(client, other["sessionId"])
            found = await browser.at(
                "app.example",
                "withToken",
                url,
                token,
                session["sessionId"],
                [other["sessionId"], UNKNOWN],
            )
            after = await state(client, other["sessionId"])
        assert found["own"] == [200, 201, 200]
        assert found["streamed"] == ["session.message", "session.renewed"]
        assert found["refused"] == ["FORBIDDEN"] * 5
        assert found["unauthorized"] == ["UNAUTHORIZED"] * 3
        assert found["others"][0] == found["others"][1]
        answers = json.loads(found["others"][0])
        assert [each["body"]["error"]["code"] for each in answers[:-1]] == ["SESSION_NOT_FOUND"] * 5
        assert answers[-1] == 2  # the EventSource has given up
        for name in ("session", "messages"):
            assert after[name] == before[name]
        for transports in (None, ["polling"], ["websocket"]):
            outcome = await browser.at(
                "app.example", "sockets", url, session["sessionId"], transports, {"token": token}
            )
            assert outcome == {"text": "Hi", "clientMessageId": "mine"}
        assert any(line.get("path", "").endswith("/events") for line in service.log)
        assert files_with(tmp_path, token[-43:]) == []


class TestPublishedManagers:
    """The socket managers of the published web client, unchanged, on pages of the service."""

    @pytest.fixture(
        params=[
            (
                "@elizaos/client@1.5.7",
                "AHp5RNNkiZV2rbuX4zSLOsQ0RuVP/KXZausdopRAjKFB0fzNClmJazbsVm5bPMXormomM9+9tgDJ/5Q4vlA6Ug==",
            ),
            (
                "@elizaos/client@1.7.2",
                "/ZdtejKf073nOWypbN0ZXD+FiV4ZSjg62PiP+dpsTt2VGTp7OkttepcwdbZFxLJCGLHSo5yek/zyhBCknHV71g==",
            ),
        ],
        ids=["1.5.7", "1.7.2"],
    )
    def manager(
        self, request: pytest.FixtureRequest, pytestconfig: pytest.Config, browser: Browser
    ) -> str:
        """Return a script with the manager, whose imports of the client are replaced."""
        package, sha512 = request.param
        (manager,) = published(pytestconfig, package, sha512, "src/lib/socketio-manager.ts")
        folder = browser.packages / "managers" / package.rpartition("@")[2]
        (folder / "lib").mkdir(parents=True, exist_ok=True)
        (folder / "lib/socketio-manager.ts").write_bytes(manager)
        for name, text in _BESIDE_THE_MANAGER.items():
            (folder / name).write_text(text)
        (folder / "manager.js").write_bytes((JS / "manager.js").read_bytes())
        subprocess.run(
            [
                browser.packages / "node_modules/.bin/esbuild",
                "manager.js",
                "--bundle",
                "--outfile=bundle.js",
                "--log-level=error",
                "--define:process.env.NODE_ENV='production'",
                "--alias:@elizaos/core=./core.js",
                "--alias:@/constants=./constants.js",
            ],
            cwd=folder,
            check=True,
            timeout=60,
        )
        return str(folder / "bundle.js")

    async def test_it_sends_and_receives(
        self, service: ServiceProcess, browser: Browser, manager: str
    ) -> None:
        """It gets its own message with its own id, and the agent's; both are stored.

        It drops messages without the channel that it has joined.
        """
        async with service.client() as client:
            session = await create(client)
            url = f"http://127.0.0.1:{service.port}/openapi.json"
            own, agents = await browser.call(url, "converse", session, scripts=[manager])
            async with client.get(f"{SESSIONS}/{session['sessionId']}/messages") as response:
                newest, first = (await response.json())["messages"]
        assert (own["id"], agents["id"]) == (first["id"], newest["id"])
        assert (own["clientMessageId"], "clientMessageId" in agents) == ("temporary-1", False)
        assert (own["senderId"], agents["senderId"]) == (session["userId"], session["agentId"])
        assert (own["name"], agents["name"]) == ("user", "Agent")
        assert (own["text"], agents["text"]) == ("Hello", "Hi, Ada")
        assert (own["source"], agents["source"]) == ("client_chat", "agent_response")
        assert own["attachments"][0]["url"] == "/a.png"
        assert first["metadata"]["isDm"] is True


# The published client's constants and helpers that its manager imports.
_BESIDE_THE_MANAGER = {
    "core.js": "export const SOCKET_MESSAGE_TYPE = { ROOM_JOINING: 1, SEND_MESSAGE: 2 };",
    "constants.js": "export const USER_NAME = 'user';",
    "lib/utils.ts": "export const randomUUID = () => 'of the manager';",
    "lib/logger.ts": "const quiet = () => {};"
    "export default { info: quiet, debug: quiet, warn: quiet, error: quiet };",
}


def files_with(folder: Path, text: str) -> list[Path]:
    """Return the files below a folder that contain a text, such as logs and a store's data."""
    files = filter(Path.is_file, folder.rglob("*"))
    return [file for file in files if text.encode() in file.read_bytes()]


async def state(client: Any, session_id: str) -> dict[str, Any]:
    """Return all state that a page could have changed."""
    found = {}
    for name, path in {
        "session": f"{SESSIONS}/{session_id}",
        "messages": f"{SESSIONS}/{session_id}/messages",
        "sessions": SESSIONS,
        "webhooks": "/api/messaging/webhooks",
    }.items():
        async with client.get(path) as response:
            found[name] = await response.json()
            assert response.status == 200, found[name]
    for session in (found["session"], *found["sessions"]["sessions"]):
        session.pop("timeRemaining")
    return found
