"""Take the screenshots of the documents, in docs/images: each page in light and in dark mode.

    python -m tests.docs.screenshots [FOLDER]

They show a service of this checkout, on a free port with a store of its own, in Chromium.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, ViewportSize, sync_playwright

from tests.docs.browser import chromium
from tests.support.processes import ROOT, ServiceProcess

MAX_BYTES = 150_000  # of an image: README.md has to load fast
SIZE = ViewportSize(width=1000, height=352)

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
USER, AGENT = "6f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90", "b850bc30-45f8-0041-a00a-83df46d8555d"
TALK = (
    (USER, "Hello, my invoice of March has a line that I do not know."),
    (AGENT, "I can look at that. Which line is it?"),
    (USER, "“Storage, 40 GB”, at the end."),
)
CREATE = "#operations-messaging-createSession"


def main() -> int:
    """Take all screenshots; return 1 if Chromium is missing or an image is too large."""
    if chromium() is None:
        print("screenshots need Chromium (Debian: apt install chromium)", file=sys.stderr)
        return 1
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    too_large = False
    with (
        tempfile.TemporaryDirectory() as data,
        ServiceProcess(Path(data)) as service,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for scheme in SCHEMES:
            for name, show in SCREENSHOTS.items():
                context = browser.new_context(
                    base_url=f"http://127.0.0.1:{service.port}", viewport=SIZE, color_scheme=scheme
                )
                image = folder / f"{name}-{scheme}.png"
                page = context.new_page()
                show(page)
                page.screenshot(path=image, animations="disabled", caret="hide")
                context.close()
                size = image.stat().st_size
                too_large |= size > MAX_BYTES
                print(f"{image.name}  {size / 1000:.0f} kB")
        browser.close()
    if too_large:
        print(f"an image has more than {MAX_BYTES // 1000} kB", file=sys.stderr)
    return int(too_large)


def _docs(page: Page) -> None:
    """Show the operations on sessions, as `/docs` lists them."""
    page.goto("/docs")
    page.wait_for_selector(CREATE)
    page.evaluate("document.querySelector('.opblock-tag-section').scrollIntoView()")


def _live(page: Page) -> None:
    """Show a session on the live page, with its timeline."""
    page.set_viewport_size({"width": 1100, "height": 660})
    api = "/api/messaging/sessions"
    session = page.request.post(
        api, data={"userId": USER, "agentId": AGENT, "metadata": {"topic": "billing"}}
    ).json()
    messages = f"{api}/{session['sessionId']}/messages"
    for author, content in TALK:
        page.request.post(messages, data={"authorId": author, "content": content})
    page.request.post(f"{api}/{session['sessionId']}/renew")
    page.goto(f"/admin#/sessions/{session['sessionId']}")
    page.wait_for_selector("section .pill.good")
    page.wait_for_selector(".event >> text=renewed")
    page.wait_for_selector(f".message >> text={TALK[-1][1]}")


SCREENSHOTS: dict[str, Callable[[Page], None]] = {"docs": _docs, "live": _live}


if __name__ == "__main__":
    sys.exit(main())
