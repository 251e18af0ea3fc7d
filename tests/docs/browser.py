"""Run the JavaScript of a page in Chromium, as a page of the service."""

import shutil
import time

from playwright.sync_api import sync_playwright

from tests.docs.blocks import matches
from tests.docs.shell import Failed

_SECONDS = 15.0


def chromium() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def run_in_browser(script: str, output: str | None) -> None:
    """Run a script as a module of a page of the service; compare the lines of its console.

    Raise Failed if it throws, or does not print the output within 15 s.
    """
    lines: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.on(
                "console",
                lambda message: lines.append(message.text) if message.type == "log" else None,
            )
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto("http://localhost:3000/healthz")
            page.add_script_tag(content=script, type="module")
            give_up = time.monotonic() + _SECONDS
            while not errors and not matches(output or "…", "\n".join(lines)):
                if time.monotonic() > give_up:
                    break
                page.wait_for_timeout(50)
        finally:
            browser.close()
    printed = "\n".join(lines)
    if errors:
        raise Failed(f"it throws {errors[0]}; it printed\n{printed}")
    if output is not None and not matches(output, printed):
        raise Failed(f"it prints\n{printed}\nand the page shows\n{output}")
