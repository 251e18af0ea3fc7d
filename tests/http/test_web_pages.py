"""The pages for people, and the files that they need."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientResponse

import session_service
from session_service.access.session_tokens import SessionTokens
from session_service.access_settings import Secret
from session_service.composition import Store
from session_service.web.http.limits import RequestLimits
from session_service.web.http.state import AppState
from session_service.web.pages import assets
from session_service.web.pages.table import page_endpoints
from session_service.web.rest.table import PUBLIC_PATHS, ROUTES
from tests.support.access import KnownCredentials
from tests.support.api import SESSIONS, Client, assert_error
from tests.support.api_document import COPY
from tests.support.factories import ID
from tests.support.service import ServiceUnderTest, app_state

FILES = Path(assets.__file__).with_name("files")
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SCRIPTS = (
    *("api", "app", "figures", "format", "htm-preact", "overview", "parts", "prometheus"),
    *("session", "sessions", "stream", "timeline", "webhooks"),
)
TYPES = {
    "/admin": "text/html; charset=utf-8",
    "/assets/admin/admin.css": "text/css; charset=utf-8",
    **{f"/assets/admin/{name}.js": "text/javascript; charset=utf-8" for name in SCRIPTS},
    "/docs": "text/html; charset=utf-8",
    "/assets/docs.css": "text/css; charset=utf-8",
    "/assets/docs.js": "text/javascript; charset=utf-8",
    "/assets/pages.css": "text/css; charset=utf-8",
    "/assets/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/assets/swagger-ui.css": "text/css; charset=utf-8",
    "/favicon.ico": "image/svg+xml",
    "/favicon.svg": "image/svg+xml",
}


@pytest.fixture
def store_url() -> str:
    """One store is enough: the pages do not read it."""
    return "memory://"


def assert_protected(response: ClientResponse) -> None:
    """Check the headers that protect a page from other origins, and from text in it."""
    policy = dict(
        directive.strip().partition(" ")[::2]
        for directive in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers.getall("X-Content-Type-Options") == ["nosniff"]
    assert response.headers["Referrer-Policy"] == "no-referrer"


class TestHome:
    """``/``."""

    async def test_a_browser_gets_html(self, service: AppState, client: Client) -> None:
        """The page has the name, the version, the store and the links; text is escaped."""
        service.describe_store = lambda: "a <b>store</b> & more"
        response = await client.get("/", headers=BROWSER)
        page = await response.text()
        assert (response.status, response.content_type) == (200, "text/html")
        assert "<h1>session-service</h1>" in page
        assert f"<dd>{session_service.__version__}</dd>" in page
        assert "<dd>a &lt;b&gt;store&lt;/b&gt; &amp; more</dd>" in page
        assert response.headers.getall("Cache-Control") == ["no-store"]
        assert response.headers["Vary"] == "Accept"
        assert_protected(response)
        links = set(re.findall(r'(?:href|src)="([^"]*)"', page))
        assert {"./docs", "./openapi.json", "./api/messaging/sessions/health"} <= links
        for link in links:
            assert not link.startswith("/"), link
            assert (await client.get(f"/{link.removeprefix('./')}")).status == 200

    @pytest.mark.parametrize(
        "accept", [None, "*/*", "application/json", "application/json, text/html;q=0.9", "a;q=x,,"]
    )
    async def test_others_get_json(self, client: Client, accept: str | None) -> None:
        """The same for programs and for curl, where its lines are readable."""
        headers = {} if accept is None else {"Accept": accept}
        response = await client.get("/", headers=headers, skip_auto_headers=("Accept",))
        assert (response.status, response.content_type) == (200, "application/json")
        text = await response.text()
        assert text.startswith('{\n  "name": "session-service",\n')
        assert text.endswith("}\n")
        home = json.loads(text)
        assert home["version"] == session_service.__version__
        assert home["accessControl"] is False
        assert set(home["links"]) >= {"docs", "openapi", "health"}

    async def test_a_head_has_the_length(self, client: Client) -> None:
        """HEAD is GET without the body."""
        response = await client.head("/", headers=BROWSER)
        whole = await client.get("/", headers=BROWSER)
        assert response.headers["Content-Length"] == whole.headers["Content-Length"]
        assert await response.read() == b""


class TestLivePage:
    """``/admin``."""

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
    async def test_it_is_off_behind_a_proxy(self, client: Client, header: str) -> None:
        """Without access control only this machine may open it; the 404 says how to turn it on."""
        headers = {header: "192.0.2.7", **BROWSER}
        error = await assert_error(await client.get("/admin", headers=headers), 404, "NOT_FOUND")
        assert "AUTH=on" in error["details"]
        assert "./admin" not in await (await client.get("/", headers=headers)).text()
        assert "./admin" in await (await client.get("/", headers=BROWSER)).text()

    async def test_access_control_turns_it_on(
        self, store: Store, aiohttp_client: Callable[..., Any]
    ) -> None:
        """With access control it is there for everyone, and has no data."""
        state = app_state(store, access=KnownCredentials())
        client = await aiohttp_client(ServiceUnderTest(state))
        response = await client.get("/admin", headers={"X-Forwarded-For": "192.0.2.7"})
        assert response.status == 200
        assert_protected(response)
        assert await response.text() == (FILES / "admin" / "admin.html").read_text("utf-8")


class TestAssets:
    """Files of pages."""

    @pytest.mark.parametrize(("path", "content_type"), TYPES.items())
    async def test_they_are_served(self, client: Client, path: str, content_type: str) -> None:
        """Each has its type, its protection and an ETag, and is compressed if that is accepted."""
        plain = await client.get(path, headers={"Accept-Encoding": "identity, gzip;q=0"})
        packed = await client.get(path, headers={"Accept-Encoding": "br, GZIP"})
        for response in (plain, packed):
            assert response.status == 200
            assert response.headers["Content-Type"] == content_type
            assert response.headers.getall("Cache-Control") == ["no-cache"]
            assert response.headers["Vary"] == "Accept-Encoding"
            assert_protected(response)
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"])
        assert plain.headers["ETag"] == packed.headers["ETag"]
        assert await plain.read() == await packed.read()  # aiohttp has decompressed it

    async def test_a_browser_keeps_its_copy(self, client: Client) -> None:
        """A request with the ETag is a 304 without a body; one with another gets the file."""
        path = "/assets/swagger-ui.css"
        etag = (await client.get(path)).headers["ETag"]
        for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
            response = await client.get(path, headers={"If-None-Match": known})
            assert (response.status, await response.read()) == (304, b""), known
            assert response.headers["ETag"] == etag
            assert "Content-Length" not in response.headers
        other = await client.get(path, headers={"If-None-Match": '"other"'})
        assert other.status == 200

    async def test_the_connection_stays_open_after_a_304(self, client: Client) -> None:
        """A client finds the end of a response without a body, and sends the next request."""
        reader, writer = await asyncio.open_connection(client.host, client.port)
        for _ in range(2):
            writer.write(b"GET /docs HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
        writer.close()
        await writer.wait_closed()

    async def test_they_are_served_under_overload(
        self, store: Store, aiohttp_client: Callable[..., Any]
    ) -> None:
        """The pages are served even if too many requests are in flight."""
        full = await aiohttp_client(ServiceUnderTest(app_state(store, max_in_flight=0)))
        assert (await full.get(f"{SESSIONS}/{ID}")).status == 503
        for path in ("/", *TYPES):
            assert (await full.get(path)).status == 200

    def test_they_need_no_credential(self, service: AppState) -> None:
        """Every page is listed with the public paths, and the tests above know each file."""
        pages = set(page_endpoints(service, ROUTES))
        assert pages <= PUBLIC_PATHS
        assert pages == {"/", "/openapi.json", "/openapi.yaml", *TYPES}


class TestDocument:
    """The API document."""

    async def test_yaml_has_the_same_content(self, client: Client) -> None:
        """``/openapi.yaml`` has the members of ``/openapi.json`` in the same order."""
        response = await client.get("/openapi.yaml")
        assert (response.status, response.content_type) == (200, "application/yaml")
        assert response.headers.getall("Cache-Control") == ["no-store"]
        text = await response.text()
        document = await (await client.get("/openapi.json")).json()
        assert json.dumps(yaml.safe_load(text)) == json.dumps(document)
        assert "\n  description: |\n" in text

    async def test_its_server_is_the_one_that_serves_it(self, client: Client) -> None:
        """The server's URL is relative, so a tool calls the service under any name."""
        document = await (await client.get("/openapi.json")).json()
        assert [server["url"] for server in document["servers"]] == ["/"]

    async def test_the_committed_copy_is_current(
        self, store: Store, aiohttp_client: Callable[..., Any]
    ) -> None:
        """docs/openapi.yaml is the document with access control and limits: `make openapi`."""
        state = app_state(
            store,
            access=KnownCredentials(),
            session_tokens=SessionTokens((Secret("s" * 32),), store.api_keys),
            limits=RequestLimits(),
        )
        client = await aiohttp_client(ServiceUnderTest(state))
        assert await (await client.get("/openapi.yaml")).text() == COPY.read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("swagger-ui", {"LICENSE", "swagger-ui-bundle.js", "swagger-ui.css"}),
        ("preact", {"LICENSE-htm", "LICENSE-preact", "htm-preact.js"}),
    ],
)
def test_vendored_files_are_the_published_ones(name: str, needed: set[str]) -> None:
    """The vendored files are those whose digests their README.md lists, and no others."""
    folder = FILES / name
    listed = dict(
        re.findall(
            r"^\| `([0-9a-f]{64})` \| `(\S+)` \|$",
            (folder / "README.md").read_text("utf-8"),
            re.MULTILINE,
        )
    )
    files = {file for file in folder.iterdir() if file.name != "README.md"}
    assert listed == {hashlib.sha256(file.read_bytes()).hexdigest(): file.name for file in files}
    assert needed <= set(listed.values())


def test_pages_name_no_other_host() -> None:
    """Our own files load nothing from elsewhere, and have no script or style in the HTML."""
    for file in (*FILES.glob("*.*"), *FILES.glob("admin/*.html"), *FILES.glob("admin/*.css")):
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|<script>|<style|\bstyle=|\bon\w+=", text), file
    for file in FILES.glob("admin/*.js"):
        text = file.read_text("utf-8")
        assert not re.search(r"https?://[a-z]|innerHTML|dangerously|Storage|cookie", text), file
