"""The live page as a process of its own, and a real browser that looks at it."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from streamer.settings import Settings
from tests.worker.live import Worker

CHROMIUM = shutil.which("chromium")
NO_BROWSER = "no chromium on the path (Debian: apt-get install chromium)"
_QUIETLY = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


class Page(Worker):
    """`streamer ui` on a port that is free."""

    command = "ui"

    def __init__(self, settings: Settings, *arguments: str) -> None:
        super().__init__(settings, "--port", "0", *arguments)

    @property
    def link(self) -> str:
        """With the token."""
        self.wait_for("live page: ")
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
