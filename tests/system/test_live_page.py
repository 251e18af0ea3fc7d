"""The live page in real Chromium: its views, what can be done in them, and hostile text in all."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.chromium import assert_readable, chromium, open_page, press_tab_until
from tests.support.factories import new_uuid
from tests.support.processes import ServiceProcess, run
from tests.support.tools import need

TOKEN = "a key that is long enough to be no warning"  # noqa: S105 - for the tests only
HIT = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>"
# Preact must not take a stored object for an element.
ELEMENT = {"type": "img", "props": {"src": "x", "onerror": "window.hit=1"}, "constructor": None}
VIEWS = ("#/overview", "#/sessions", "#/webhooks", "#/figures")


class Api:
    """The API of a service, for what a test prepares."""

    def __init__(self, service: ServiceProcess, key: str = "") -> None:
        self._port = service.port
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["X-API-KEY"] = key

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of a response."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        text = None if body is None else json.dumps(body)
        connection.request(method, f"/api/messaging/{path}", text, self._headers)
        response = connection.getresponse()
        content = json.loads(response.read())
        connection.close()
        return response.status, content

    def create(self, **body: Any) -> dict[str, Any]:
        """Create a session and return it."""
        body = {"userId": new_uuid(), "agentId": new_uuid(), **body}
        status, session = self.call("POST", "sessions", body)
        assert status == 201, session
        return session


class Endpoint:
    """A webhook endpoint that answers with ``status``, and keeps the types of events it accepts."""

    def __init__(self) -> None:
        self.status = 503
        self.accepted: list[str] = []
        self.has_accepted = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if endpoint.status < 300:
                    endpoint.accepted.append(event["type"])
                    endpoint.has_accepted.set()
                self.send_response(endpoint.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service without access control."""
    need("chromium")
    folder = tmp_path_factory.mktemp("live")
    webhooks = {"ALLOW_NETWORKS": "127.0.0.0/8", "RETRY_HOURS": "1e-6", "RETRY_SECONDS": "0.05"}
    settings = {f"SESSION_WEBHOOKS_{name}": value for name, value in webhooks.items()}
    with ServiceProcess(folder, **settings) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: ServiceProcess) -> Api:
    return Api(service)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need("chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, service: ServiceProcess) -> Iterator[Page]:
    """A page that reports no error, no violation of its policy, and no request to another host."""
    with open_page(browser, f"http://127.0.0.1:{service.port}", may_be_refused=True) as page:
        yield page


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.05,))
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def user() -> str:
    """The user whose events the webhook gets."""
    return new_uuid()


@pytest.fixture(scope="module")
def webhook(api: Api, endpoint: Endpoint, user: str) -> str:
    """The id of the endpoint's webhook."""
    _, webhook = api.call("POST", "webhooks", {"url": endpoint.url, "userId": user})
    found: str = webhook["webhookId"]
    return found


@pytest.fixture
def hook(api: Api, endpoint: Endpoint, webhook: str, user: str) -> str:
    """The id of the webhook, which has one dead letter."""
    endpoint.status = 503
    path = f"webhooks/{webhook}"
    if not api.call("GET", path)[1]["dead"]:
        api.create(userId=user)
    for _ in range(200):
        if api.call("GET", path)[1]["dead"]:
            return webhook
        time.sleep(0.05)
    raise AssertionError("the delivery is not given up")


def entry(page: Page, text: str) -> Any:
    """Return the entry of the timeline that has a text."""
    return page.locator(".timeline li", has_text=text)


def test_a_session_is_found_and_followed(page: Page, api: Api) -> None:
    """The list is filtered by user; one session's timeline grows as it is used from elsewhere."""
    user = new_uuid()
    sessions = [api.create(userId=user, metadata={"n": n}) for n in range(2)]
    other = api.create()
    chosen = f"sessions/{sessions[0]['sessionId']}"
    api.call("POST", f"{chosen}/messages", {"content": "before", "metadata": {"channel": "web"}})
    page.goto("/admin")
    expect(page.locator(".stat", has_text="Live sessions").locator("strong")).to_have_text(
        re.compile(r"\d")
    )
    expect(page.locator(".stat", has_text="Store round trip").locator("strong")).to_have_text(
        re.compile("ms")
    )
    page.click("nav >> text=Sessions")
    expect(page.locator("tbody tr", has_text=other["sessionId"][:8])).to_have_count(1)
    page.fill("#filter-user", user)
    page.click("button >> text=Filter")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.click(f"tbody a[href='#/{chosen}']")
    expect(entry(page, "before")).to_contain_text("User")
    expect(page.locator("section .pill")).to_have_text("live")
    expect(entry(page, "created")).to_have_count(1)
    api.call("POST", f"{chosen}/messages", {"content": "from the user"})
    expect(entry(page, "from the user")).to_have_class("message user")
    api.call("PATCH", chosen, {"metadata": {"topic": "billing"}})
    expect(entry(page, "updated")).to_contain_text("metadata")
    expect(page.locator(".facts pre")).to_contain_text('"topic": "billing"')
    api.call("DELETE", chosen)
    expect(entry(page, "ended")).to_have_count(1)
    expect(page.locator("text=This session is over.")).to_have_count(1)
    expect(page.locator("#reply")).to_have_count(0)
    assert page.locator(".timeline li", has_text="from the user").count() == 1


def test_all_by_keyboard(page: Page, api: Api) -> None:
    """A session is found, renewed, answered and ended without a mouse; the end asks first."""
    session = api.create()
    path = f"sessions/{session['sessionId']}"
    page.goto("/admin")
    page.wait_for_selector("h1")
    press_tab_until(page, ".skip")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    press_tab_until(page, "button[aria-pressed]")
    page.goto(f"/admin#/sessions?user={session['userId']}")
    page.wait_for_selector("tbody tr")
    press_tab_until(page, "tbody th a")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    page.wait_for_selector("#reply")
    press_tab_until(page, ".actions button:not(.danger)")
    page.keyboard.press("Enter")
    expect(entry(page, "renewed")).to_have_count(1)
    press_tab_until(page, "#reply")
    page.keyboard.type("an answer")
    page.keyboard.press("Control+Enter")
    expect(entry(page, "an answer")).to_have_class("message agent")
    expect(page.locator("#reply")).to_have_value("")
    press_tab_until(page, "button.danger")  # around, from the end to the beginning
    page.keyboard.press("Enter")
    expect(page.locator("dialog button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("button.danger")).to_be_focused()
    assert api.call("GET", path)[0] == 200
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog")
    press_tab_until(page, "dialog .danger")
    page.keyboard.press("Enter")
    expect(entry(page, "ended")).to_have_count(1)
    expect(page.locator("h1")).to_be_focused()
    assert api.call("GET", path)[0] == 404
    assert page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count() == 0


def test_dead_letters_are_replayed(page: Page, endpoint: Endpoint, hook: str) -> None:
    """An endpoint that gave up gets its dead letter again."""
    page.goto("/admin#/webhooks")
    row = page.locator("tbody tr", has_text=endpoint.url)
    page.click(f"a[href='#/webhooks/{hook}']")
    letter = page.locator(".letters li", has_text="session.created")
    expect(letter).to_contain_text("HTTP_503")
    endpoint.status = 204
    letter.locator("button").click()
    page.click("dialog button.danger")
    expect(page.locator(".toast")).to_contain_text("1 delivery is tried again")
    expect(page.locator("text=No delivery has failed for good.")).to_have_count(1)
    page.click("text=← All webhooks")
    expect(row).to_contain_text("active")
    assert endpoint.has_accepted.wait(10)
    assert endpoint.accepted == ["session.created"]


@pytest.mark.proof
def test_light_dark_and_narrow(page: Page, api: Api, hook: str) -> None:
    """Every view is readable in both schemes, and fits into 380 pixels."""
    session = api.create(metadata={"topic": "a-word-" * 40})
    path = f"sessions/{session['sessionId']}"
    api.call("POST", f"{path}/messages", {"content": "x" * 400})
    api.call("POST", f"{path}/messages", {"content": "answer", "authorId": session["agentId"]})
    page.set_viewport_size({"width": 380, "height": 800})
    for view in (*VIEWS, f"#/{path}", f"#/webhooks/{hook}"):
        page.goto(f"/admin{view}")
        page.wait_for_selector(".view dl, .view table")
        for scheme, background in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(28, 32, 34)")):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert_readable(page, background)
        assert page.evaluate("document.documentElement.scrollWidth") == 380, view


def assert_inert(page: Page) -> None:
    """Check that no text has become an element, or run."""
    assert page.evaluate("window.hit") is None
    assert page.locator("img:not([src='favicon.svg'])").count() == 0
    assert page.locator("body script, a[href^='javascript:']").count() == 0


def test_stored_text_stays_text(page: Page, api: Api, endpoint: Endpoint) -> None:
    """Markup in metadata, messages, attachments and URLs is shown, and does nothing."""
    metadata = {HIT: HIT, "nested": [{HIT: HIT}], "element": ELEMENT}
    session = api.create(metadata=metadata)
    path = f"sessions/{session['sessionId']}"
    link = {"url": f"javascript:window.hit=1//{HIT}", "type": HIT}
    for author in (session["userId"], session["agentId"]):
        status, _ = api.call(
            "POST",
            f"{path}/messages",
            {"content": HIT, "authorId": author, "metadata": metadata, "attachments": [link]},
        )
        assert status == 201
    url = f"{endpoint.url}?{HIT}".replace(" ", "/")
    status, webhook = api.call("POST", "webhooks", {"url": url, "userId": session["userId"]})
    assert status == 201, webhook
    page.goto(f"/admin#/sessions?user={session['userId']}")
    expect(page.locator("tbody td.clip")).to_contain_text("<img src=x")
    assert_inert(page)
    page.goto(f"/admin#/{path}")
    expect(entry(page, HIT)).to_have_count(2)
    expect(page.locator(".facts pre")).to_contain_text("<script>")
    for summary in page.locator(".timeline summary").all():
        summary.click()
    expect(page.locator(".timeline pre", has_text="javascript:")).to_have_count(2)
    assert_inert(page)
    page.goto("/admin#/webhooks")
    expect(page.locator("tbody a", has_text="<img/src=x")).to_have_count(1)
    assert_inert(page)
    page.goto(f"/admin#/webhooks/{webhook['webhookId']}")
    expect(page.locator(".facts", has_text="<script>")).to_have_count(1)
    page.goto(f"/admin#/sessions/{HIT}")
    expect(page.locator("h1")).to_contain_text("<img")
    expect(page.locator(".note.bad")).to_have_count(1)
    page.goto(f"/admin#/sessions?user={HIT}")
    expect(page.locator(".note.bad").first).to_contain_text("userId")
    assert_inert(page)
    api.call("DELETE", f"webhooks/{webhook['webhookId']}")


def hostile(value: Any) -> Any:
    """Return a response with markup in place of every text but times, and an element in one."""
    if isinstance(value, dict):
        return {name: hostile(each) for name, each in value.items()}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    is_text = isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\dT", value)
    return HIT if is_text else value


@pytest.mark.proof
def test_no_text_of_a_response_is_trusted(page: Page, api: Api, hook: str) -> None:
    """Whatever a response has in place of an id, a status, a reason or an error stays text."""
    session = api.create(metadata={"a": "b"})
    path = f"sessions/{session['sessionId']}"
    api.call("POST", f"{path}/messages", {"content": "Hello", "metadata": {"a": "b"}})

    def tamper(route: Route) -> None:
        if route.request.url.split("?")[0].endswith("/events"):
            event = {"id": HIT, "type": HIT, "time": "2026-01-01T00:00:00.000Z", "data": ELEMENT}
            text = f"event: session.{HIT}\ndata: {json.dumps(event)}\n\n"
            route.fulfill(body=f"retry: 30000\n{text}", content_type="text/event-stream")
            return
        response = route.fetch()
        body = hostile(response.json())
        if "/health" in route.request.url:
            body["reasons"] = [HIT, ELEMENT]
        for message in body.get("messages", ()):
            message["content"] = ELEMENT
        route.fulfill(response=response, json=body)

    page.route("**/api/messaging/**", tamper)
    for view in (*VIEWS, f"#/{path}", f"#/webhooks/{hook}", "#/sessions/none"):
        page.goto(f"/admin{view}")
        expect(page.locator(".view")).to_contain_text("<img src=x")
        assert_inert(page)
    page.unroute_all(behavior="ignoreErrors")


def create_key(service: ServiceProcess, folder: Path, *arguments: str) -> str:
    """Create a key, and wait until the service accepts it."""
    data = {"AUTH": "on", "SESSION_DATA_DIR": str(folder / "data")}
    done = run(folder, "keys", "create", *arguments, **data)
    key = done.stdout.strip()
    for _ in range(100):
        if Api(service, key).call("GET", "sessions")[0] != 401:
            return key
        time.sleep(0.05)
    raise AssertionError(f"the key is not accepted: {done.stderr}")


@contextmanager
def signed_in(browser: Browser, service: ServiceProcess, key: str) -> Iterator[Page]:
    """Open the page with a key."""
    with open_page(browser, f"http://127.0.0.1:{service.port}", may_be_refused=True) as page:
        page.goto("/admin")
        page.fill("#credential", key)
        page.keyboard.press("Enter")
        page.wait_for_selector(".view")
        assert key not in page.url
        assert key not in page.content()
        yield page


def test_access_control(browser: Browser, tmp_path: Path) -> None:
    """A key sees and does what its scopes and agents permit, and refusals are readable.

    It is in no URL and no storage, and a reload forgets it.
    """
    with ServiceProcess(tmp_path, AUTH="on", ELIZA_SERVER_AUTH_TOKEN=TOKEN) as service:
        api = Api(service, TOKEN)
        session = api.create(metadata={"topic": "confidential"})
        path = f"sessions/{session['sessionId']}"
        api.call("POST", f"{path}/messages", {"content": "a secret"})
        other = api.create()
        kinds = (
            ("reader", "--scopes", "sessions:read", "--agents", session["agentId"]),
            ("none", "--scopes", "turns:work"),
        )
        with ThreadPoolExecutor() as pool:
            reader, none = pool.map(lambda kind: create_key(service, tmp_path, *kind), kinds)
        with signed_in(browser, service, reader) as page:
            page.click("nav >> text=Sessions")
            expect(page.locator("tbody tr")).to_have_count(1)
            page.goto(f"/admin#/sessions/{other['sessionId']}")
            expect(page.locator(".note.bad")).to_contain_text("SESSION_NOT_FOUND")
            page.goto(f"/admin#/{path}")
            expect(page.locator(".facts")).to_contain_text("confidential")
            expect(page.locator(".note.bad")).to_have_count(2)  # messages and events
            expect(page.locator(".note.bad").first).to_contain_text("messages:read")
            assert "a secret" not in page.content()
            page.click("button.danger")
            page.click("dialog button.danger")
            expect(page.locator("dialog .note")).to_contain_text("sessions:write")
            page.keyboard.press("Escape")
            page.click("nav >> text=Webhooks")
            expect(page.locator(".note.bad", has_text="webhooks:admin")).to_have_count(1)
            assert api.call("GET", path)[0] == 200
            assert reader not in page.content()
            assert reader not in page.url
            assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
            assert page.context.cookies() == []
            page.reload()
            page.wait_for_selector("#credential")
        with signed_in(browser, service, none) as page:
            for view in VIEWS[:3]:
                page.goto(f"/admin{view}")
                expect(page.locator(".note.bad").first).to_contain_text("does not permit")
                assert "confidential" not in page.content()
            expect(page.locator("tbody tr")).to_have_count(0)
            page.click("text=Forget the key")
            page.fill("#credential", "wrong")
            page.keyboard.press("Enter")
            expect(page.locator(".note.bad")).to_contain_text("not accepted")


@pytest.mark.proof
def test_a_restart_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    """The timeline goes on after a restart, without a gap or a repeat."""
    data = {"SESSION_DATA_DIR": str(tmp_path / "data")}
    with ServiceProcess(tmp_path / "first", **data) as first:
        port = first.port
        session = Api(first).create()
        path = f"sessions/{session['sessionId']}"
        context = browser.new_context(base_url=f"http://127.0.0.1:{port}")
        page = context.new_page()
        page.goto(f"/admin#/{path}")
        expect(page.locator("section .pill")).to_have_text("live")
        Api(first).call("POST", f"{path}/messages", {"content": "before"})
        Api(first).call("POST", f"{path}/renew")
        expect(entry(page, "before")).to_have_count(1)
        expect(entry(page, "renewed")).to_have_count(1)
    expect(page.locator("section .pill")).to_have_text("reconnecting")
    with ServiceProcess(tmp_path / "second", PORT=str(port), **data) as second:
        assert second.port == port
        Api(second).call("POST", f"{path}/messages", {"content": "after"})
        expect(entry(page, "after")).to_have_count(1, timeout=30_000)
        expect(page.locator("section .pill")).to_have_text("live")
        assert page.locator(".message").count() == 2
        assert entry(page, "renewed").count() == 1
        context.close()


@pytest.mark.proof
def test_a_revoked_key(browser: Browser, tmp_path: Path) -> None:
    """When a key is revoked, the page asks for another and shows nothing of what it read."""
    settings = {"AUTH": "on", "SESSION_DATA_DIR": str(tmp_path / "data")}
    with ServiceProcess(tmp_path, AUTH="on", ELIZA_SERVER_AUTH_TOKEN=TOKEN) as service:
        Api(service, TOKEN).create(metadata={"topic": "confidential"})
        key = create_key(service, tmp_path, "reader", "--scopes", "sessions:read")
        with signed_in(browser, service, key) as page:
            page.click("nav >> text=Sessions")
            expect(page.locator("tbody")).to_contain_text("confidential")
            run(tmp_path, "keys", "revoke", key.split("_")[1], **settings)
            expect(page.locator("#credential")).to_be_visible(timeout=20_000)
            expect(page.locator(".note.bad")).to_contain_text("not accepted")
            assert "confidential" not in page.content()
