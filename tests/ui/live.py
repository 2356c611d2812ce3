"""The live page as a process of its own, and a real browser that looks at it."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright
from playwright.sync_api import Page as Tab

from streamer.settings import Settings
from tests.worker.live import Worker

CHROMIUM = shutil.which("chromium")
NO_BROWSER = "no chromium on the path (Debian: apt-get install chromium)"
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=900)
SCROLLS_ASIDE_PX = "document.scrollingElement.scrollWidth - window.innerWidth"
SOON_MS = 20_000
expect.set_options(timeout=SOON_MS)
_QUIETLY = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


class Page(Worker):
    """`streamer ui` on a port that is free."""

    command = "ui"

    def __init__(self, settings: Settings, *arguments: str) -> None:
        super().__init__(settings, *arguments, "--port", "0")

    @property
    def link(self) -> str:
        """With the token."""
        self.wait_for("/?token=")
        found = re.search(r"http://\S+", self.log)
        assert found
        return found[0]

    @property
    def address(self) -> str:
        return self.link.partition("/?")[0]


@contextmanager
def showing(settings: Settings, *arguments: str) -> Iterator[Page]:
    """Ends it, too."""
    page = Page(settings, *arguments)
    try:
        yield page
    finally:
        page.signal(signal.SIGTERM)
        assert page.end() == 0, page.log


@contextmanager
def a_browser(user_data: Path) -> Iterator[Browser]:
    """Debian's Chromium, headless, with nothing remembered."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_QUIETLY, env={"HOME": str(user_data)}, timeout=60_000
        )
        yield browser
        browser.close()


def serious_violations(tab: Tab) -> dict[str, list[str]]:
    """What axe finds serious or worse, by rule, with the elements."""
    return {
        each["id"]: [node["html"][:200] for node in each["nodes"][:3]]
        for each in Axe().run(tab).response["violations"]
        if each["impact"] in ("serious", "critical")
    }
