"""The event loop of a worker process: uvloop where it is installed, for less CPU a click."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import mode.loop

from streamer.kafka.aiokafka_overrides.connections import close_connections_that_uvloop_finds_broken
from streamer.settings import KafkaSettings


def run(work: Coroutine[Any, Any, None], kafka: KafkaSettings) -> None:
    """As `asyncio.run`. Faust's consumer thread gets a loop of the same kind.

    Over TLS that is asyncio's own: with uvloop 0.23 brokers' answers to some requests aren't seen before the
    request times out, in a quarter of all starts.
    """
    if not kafka.uses_tls:
        with contextlib.suppress(ImportError):  # there is none for Windows
            mode.loop.use("uvloop")
            close_connections_that_uvloop_finds_broken()
    asyncio.run(work)
