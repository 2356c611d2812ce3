"""The event loop of a worker process: uvloop where it is installed, for less CPU a click."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import mode.loop


def run(work: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`. Faust's consumer thread gets a loop of the same kind."""
    with contextlib.suppress(ImportError):  # there is none for Windows
        mode.loop.use("uvloop")
    asyncio.run(work)
