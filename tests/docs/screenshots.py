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


SCREENSHOTS: dict[str, Callable[[Page], None]] = {"docs": _docs}


if __name__ == "__main__":
    sys.exit(main())
