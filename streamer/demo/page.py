"""The live page beside the demo, where the extra `ui` is installed: `streamer ui` in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from streamer.demo.play import environment
from streamer.settings import Settings

_LINK = re.compile(rb"live page: (\S+)")
_LINK_WITHIN_S = 20.0


@contextmanager
def live_page(settings: Settings, options: Sequence[str]) -> Iterator[str | None]:
    """Its link; None if it isn't installed, or doesn't start. `options`: what stood before the command."""
    if find_spec("nicegui") is None:
        yield None
        return
    with subprocess.Popen(
        [
            *(sys.executable, "-c", "from streamer.cli import main; main()", *options),
            *("--set", f"registry.url={settings.registry.url or ''}"),
            *("ui", "--host", "127.0.0.1", "--port", "0", "--from", "earliest"),
        ],
        env=environment(settings),
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as page:
        try:
            yield _link_of(page)
        finally:
            page.terminate()


def _link_of(page: subprocess.Popen[bytes]) -> str | None:
    """What else it says is dropped: the demo's terminal is the demo's."""
    links: list[str] = []
    has_link = threading.Event()

    def read() -> None:
        for line in page.stderr or ():
            if found := _LINK.search(line):
                links.append(found[1].decode())
                has_link.set()
        has_link.set()

    threading.Thread(target=read, daemon=True).start()
    has_link.wait(_LINK_WITHIN_S)
    return links[0] if links else None
