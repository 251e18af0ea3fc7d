"""The pages in real Chromium, by keyboard, without a network, in light and in dark mode.

Every host name but the service's address is unknown to this browser.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.support.npm import JS
from tests.support.processes import ServiceProcess
from tests.support.tools import need

KEY = "a key that is long enough to be no warning"
CREATE = "#operations-messaging-createSession"
STREAM = "#operations-events-streamEvents"
CONTRAST = (JS / "contrast.js").read_text()
MAX_TABS = 150
MAX_SECONDS = 300  # by the clock of the page


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with access control."""
    folder = tmp_path_factory.mktemp("pages")
    with ServiceProcess(folder, ELIZA_SERVER_AUTH_TOKEN=KEY) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: ServiceProcess) -> Iterator[Page]:
    """A page that reports no error, no violation of its policy, and no request to another host."""
    address = f"http://127.0.0.1:{service.port}"
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.set_default_timeout(10_000)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"{request.failure}: {request.url}"))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    yield page
    context.close()
    stopped = "net::ERR_ABORTED"  # by the page itself: it reads only the start of a stream
    assert [each for each in problems if not each.startswith(stopped)] == []
    assert [url for url in requests if not url.startswith((f"{address}/", "blob:", "data:"))] == []


def press_tab_until(page: Page, selector: str) -> None:
    """Press Tab until the focus is on an element, visibly."""
    for _ in range(MAX_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", selector
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_a_call_by_keyboard(page: Page) -> None:
    """A key is entered, a session created and its response shown, without a mouse.

    Nothing that was entered is kept: another page of the browser has no credential.
    """
    page.goto("/")
    expect(page.locator("dd", has_text="Valkey, one server")).to_have_count(1)
    press_tab_until(page, "a[href='./docs']")
    page.keyboard.press("Enter")
    page.wait_for_selector(CREATE)
    press_tab_until(page, "button.authorize")
    page.keyboard.press("Enter")
    expect(page.locator("#api_key_value").first).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".auth-container", has_text="X-API-KEY")).to_contain_text("Authorized")
    page.keyboard.press("Escape")
    expect(page.locator(".dialog-ux")).to_have_count(0)
    press_tab_until(page, f"{CREATE} .opblock-summary-control")
    page.keyboard.press("Enter")
    expect(page.locator(f"{CREATE} textarea")).to_have_value(re.compile('"agentId"'))
    press_tab_until(page, f"{CREATE} .execute")
    page.keyboard.press("Enter")
    response = page.locator(f"{CREATE} .live-responses-table")
    expect(response.locator(".response-col_status").last).to_contain_text("201")
    expect(response).to_contain_text('"sessionId"')
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_light_and_dark(page: Page, path: str) -> None:
    """A page follows the colours of the system, also while it is open, and is readable."""
    page.emulate_media(color_scheme="light")
    page.goto(path)
    if path == "/docs":
        page.click(f"{CREATE} .opblock-summary-control")
        page.wait_for_selector(f"{CREATE} .execute")
    assert_readable(page, "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="dark")
    assert_readable(page, "rgb(28, 32, 34)")


def assert_readable(page: Page, background: str) -> None:
    """Wait for the background of the page, and until no text is faint: colours may fade over."""
    check = f"""() => getComputedStyle(document.body).backgroundColor === {background!r}
        && ({CONTRAST})().length === 0"""
    with suppress(PlaywrightError):
        page.wait_for_function(check, polling=100, timeout=5000)
        return
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    assert page.evaluate(CONTRAST) == []


def test_the_start_of_a_stream_is_shown(page: Page) -> None:
    """The console shows the first events of a stream, which does not end."""
    page.clock.install()
    page.goto("/docs")
    page.click("button.authorize")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.click(f"{STREAM} .opblock-summary-control")
    page.click(f"{STREAM} .execute")
    for _ in range(MAX_SECONDS):
        page.clock.fast_forward(1000)
        if "event: position" in page.locator(STREAM).inner_text():
            break
    expect(
        page.locator(f"{STREAM} .live-responses-table .response-col_status").last
    ).to_contain_text("200")


def test_below_a_path(page: Page) -> None:
    """A proxy may serve the pages below a path: calls of the console go there, too."""
    seen = []

    def forward(route: Route) -> None:
        seen.append(re.sub(r".*/chat", "", route.request.url))
        route.fulfill(response=route.fetch(url=route.request.url.replace("/chat/", "/")))

    page.route("**/chat/**", forward)
    page.goto("/chat/")
    page.click("text=API documentation")
    page.click("#operations-probes-healthz .opblock-summary-control")
    page.click("#operations-probes-healthz .execute")
    expect(page.locator("#operations-probes-healthz .live-responses-table")).to_contain_text('"ok"')
    assert seen[-1] == "/healthz"
