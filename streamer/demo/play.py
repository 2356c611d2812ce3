"""Plays clicks through a real broker and a worker process, and follows what comes out.

The worker is the one that users run, started as they start it. Its last act is a drain, so that the demo
ends with every session closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from schemas import codec
from streamer.demo.pacing import PacedLines
from streamer.demo.view import DemoProgress
from streamer.errors import StreamerError
from streamer.kafka.client import client_arguments
from streamer.kafka.lines import Lines
from streamer.kafka.produce import Produced, produce
from streamer.kafka.subscribe import records
from streamer.kafka.topics import create_topics, declared_topics
from streamer.pipeline.counters import ClickCounters, total_of
from streamer.settings import Settings
from streamer.worker.log_reader import LogReader

LAST_INTENTS_S = 5.0
"""How long intents may be under way to the reader after the worker has published them."""


class DemoError(StreamerError):
    """The worker of the demo ended with an error; its own message went to the terminal before."""


async def play(
    settings: Settings,
    file: Path,
    seen: DemoProgress,
    *,
    speed: float | None,
    worker_options: Sequence[str],
    on_record: Callable[[dict[str, Any]], None],
) -> None:
    """Send the file's clicks, at `speed` times their own pace or all at once, and follow the intents.

    `worker_options` are what the command line said before the command.
    """
    await create_topics(settings.kafka, declared_topics(settings))
    following = asyncio.create_task(_follow(settings, seen, on_record))
    try:
        if speed is None:
            await _send(settings, file, None, seen)
        else:
            async with _worker(settings, worker_options):
                await _send(settings, file, speed, seen)
        async with _worker(settings, worker_options, "--drain") as drain:
            if await drain.wait():
                raise DemoError("the worker failed; the lines above say why")
        seen.counters = await _counters(settings)
        if seen.sessions < seen.counters.sessions:
            # Sessions that could not be scored are dead letters and never come here.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(following, LAST_INTENTS_S)
    finally:
        following.cancel()


async def _send(settings: Settings, file: Path, speed: float | None, seen: DemoProgress) -> None:
    def progress(produced: Produced) -> None:
        seen.clicks_sent = produced.sent

    with Lines(str(file)) as lines:
        paced = lines if speed is None else PacedLines(lines, speed)
        await produce(settings, paced, None, progress)


async def _follow(
    settings: Settings, seen: DemoProgress, on_record: Callable[[dict[str, Any]], None]
) -> None:
    async for record in records(settings.kafka, settings.topics.intents):
        intent = codec.decode(record.value)[1]
        seen.see(intent)
        on_record(intent)
        if seen.counters is not None and seen.sessions >= seen.counters.sessions:
            return


async def _counters(settings: Settings) -> ClickCounters:
    """The counters of all partitions together, as the changelog has them."""
    async with LogReader(client_arguments(settings.kafka)) as reader:
        found = await reader.recover(
            settings.changelog, range(settings.topics.partitions), on_progress=lambda: None
        )
    return total_of(each.marker.counters for each in found.values() if each.marker is not None)


@asynccontextmanager
async def _worker(
    settings: Settings, options: Sequence[str], *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`streamer worker` in a process of its own; it is asked to stop at the end."""
    environment = os.environ | {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "STREAMER_LOG__LEVEL": "error",
        # A static member: the drain gets its partitions at once.
        "STREAMER_APP__INSTANCE_ID": "demo",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from streamer.cli import main; main()",
        *options,
        "worker",
        *arguments,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()
