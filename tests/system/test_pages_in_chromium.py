"""The pages in real Chromium, by keyboard, without a network, in light and in dark mode."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.chromium import assert_readable, chromium, open_page, press_tab_until
from tests.support.processes import ServiceProcess
from tests.support.tools import need

KEY = "a key that is long enough to be no warning"
CREATE = "#operations-messaging-createSession"
STREAM = "#operations-events-streamEvents"
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
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, service: ServiceProcess) -> Iterator[Page]:
    """A page that reports no error, no violation of its policy, and no request to another host."""
    with open_page(browser, f"http://127.0.0.1:{service.port}") as page:
        yield page


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


def test_the_start_of_a_stream_is_shown(page: Page) -> None:
    """The console shows the first events of a stream, which does not end."""
    page.clock.install()
    page.goto("/docs")
    page.click("button.authorize")
    page.fill("#api_key_value >> nth=0", KEY)
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
