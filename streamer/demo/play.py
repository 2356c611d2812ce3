"""Plays clicks through a real broker and a worker process, and follows what comes out: sessions, customers.

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

import msgspec

from streamer.demo.pacing import PacedLines, time_of
from streamer.demo.view import DemoProgress, hand_over_line, one_line
from streamer.errors import StreamerError
from streamer.identity.attribution import Progress, SessionCounts
from streamer.kafka.client import client_arguments
from streamer.kafka.lines import Lines
from streamer.kafka.produce import Produced, produce
from streamer.kafka.subscribe import records
from streamer.kafka.topics import create_topics, declared_topics
from streamer.pipeline.counters import ClickCounters, total_of
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.sources import time_reader
from streamer.worker.log_reader import LogReader
from streamer.worker.stages.stage_marker import newest_marker

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
    on_line: Callable[[str], None],
) -> None:
    """Send the file's clicks, at `speed` times their own pace or all at once, and follow what comes of them.

    `worker_options` are what the command line said before the command. `on_line` gets a line for each session
    and each hand-over.
    """
    await create_topics(settings.kafka, declared_topics(settings))
    following = asyncio.create_task(_follow(settings, seen, on_line))
    has_customers = settings.identity.enabled
    hand_overs = asyncio.create_task(_follow_customers(settings, seen, on_line)) if has_customers else None
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
        if has_customers:
            seen.attributed = await _session_counts(settings)
            seen.customers = await _customers(settings)
    finally:
        following.cancel()
        if hand_overs is not None:
            hand_overs.cancel()


async def _send(settings: Settings, file: Path, speed: float | None, seen: DemoProgress) -> None:
    def progress(produced: Produced) -> None:
        seen.clicks_sent = produced.sent

    with Lines(str(file)) as lines:
        paced = lines if speed is None else PacedLines(lines, speed, time_reader(settings.clicks, time_of))
        await produce(settings, paced, None, progress)


async def _follow(settings: Settings, seen: DemoProgress, on_line: Callable[[str], None]) -> None:
    async for record in records(settings.kafka, settings.topics.intents):
        intent = codec.decode(record.value)[1]
        if intent["is_final"]:
            seen.see(intent)
            on_line(one_line(intent))
        if seen.counters is not None and seen.sessions >= seen.counters.sessions:
            return


async def _follow_customers(settings: Settings, seen: DemoProgress, on_line: Callable[[str], None]) -> None:
    """Until cancelled."""
    async for record in records(settings.kafka, settings.topics.users):
        if record.value is None:
            continue
        customer = codec.decode(record.value)[1]
        if not customer["is_final"]:  # the session goes on, and its visitor has just logged in
            seen.hand_overs.appendleft(customer)
            on_line(hand_over_line(customer))


async def _customers(settings: Settings) -> dict[str, codec.Record]:
    """The record of every customer who has one."""
    latest: dict[str, codec.Record] = {}
    async for record in records(settings.kafka, settings.topics.users, timeout_s=0):
        if record.value is None:
            latest.pop(record.key.decode(), None)
        else:
            latest[record.key.decode()] = codec.decode(record.value)[1]
    return latest


async def _session_counts(settings: Settings) -> SessionCounts:
    """Sessions of all partitions by whom they were attributed to, as the changelog has them."""
    topic, numbers = settings.attribution_changelog, range(settings.topics.partitions)
    async with LogReader(client_arguments(settings.kafka)) as reader:
        markers = (await reader.newest(topic, numbers, newest_marker)).values()
    counts = [msgspec.msgpack.decode(each.progress, type=Progress).counts for each in markers if each]
    return SessionCounts(*map(sum, zip(*map(msgspec.structs.astuple, counts), strict=True)))


async def _counters(settings: Settings) -> ClickCounters:
    """The counters of all partitions together, as the changelog has them."""
    async with LogReader(client_arguments(settings.kafka)) as reader:
        found = await reader.recover(
            settings.changelog, range(settings.topics.partitions), on_progress=lambda: None
        )
    return total_of(each.marker.counters for each in found.values() if each.marker is not None)


def environment(settings: Settings) -> dict[str, str]:
    """For processes of the demo beside its own."""
    return os.environ | {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "STREAMER_LOG__LEVEL": "error",
        "STREAMER_CLICKS__SOURCE": settings.clicks.source,
    }


@asynccontextmanager
async def _worker(
    settings: Settings, options: Sequence[str], *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`streamer worker` in a process of its own; it is asked to stop at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from streamer.cli import main; main()",
        *options,
        "--set",
        f"registry.url={settings.registry.url or ''}",
        "worker",
        *arguments,
        # A static member: the drain gets its partitions at once.
        env=environment(settings) | {"STREAMER_APP__INSTANCE_ID": "demo"},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()
