"""Chromium for tests of pages; every host name but the service's address is unknown to it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.support.npm import JS

CONTRAST = (JS / "contrast.js").read_text()
MAX_TABS = 150

_REFUSED = re.compile(
    r"error: Failed to load resource: the server responded with a status of 4\d\d"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium without a window."""
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


@contextmanager
def open_page(browser: Browser, address: str, *, may_be_refused: bool = False) -> Iterator[Page]:
    """Open a page that reports no error, no violation of its policy, and no other host.

    With ``may_be_refused``, responses of 400 to 499 are no problem.
    """
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
    stopped = "net::ERR_ABORTED"  # by the page itself, which ends a stream
    assert [
        each
        for each in problems
        if not each.startswith(stopped) and not (may_be_refused and _REFUSED.match(each))
    ] == []
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


def assert_readable(page: Page, background: str) -> None:
    """Wait for the background of the page, and until no text is faint: colours may fade over."""
    check = f"""() => getComputedStyle(document.body).backgroundColor === {background!r}
        && ({CONTRAST})().length === 0"""
    with suppress(PlaywrightError):
        page.wait_for_function(check, polling=100, timeout=5000)
        return
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    assert page.evaluate(CONTRAST) == []
