"""Partitions are added while a sink copies, and while none does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from streamer.kafka.topics import grow_topics
from streamer.operations.growth import growing_topics
from streamer.settings import Settings
from streamer.sink.copier import Copier
from streamer.sink.metrics import SinkMetrics
from streamer.sink.source import sources_of
from tests.client.records import a_message
from tests.sink.live import publish
from tests.worker.live import committed, wait_until

VISITORS = 20


def grow(settings: Settings, partitions: int) -> Settings:
    """Returns settings that say so."""
    topics = settings.topics.model_copy(update={"partitions": partitions})
    larger = settings.model_copy(update={"topics": topics})
    asyncio.run(grow_topics(larger.kafka, growing_topics(larger)))
    return larger


def copy_while_partitions_are_added(settings: Settings, open_store: Callable[[], Any]) -> Settings:
    """Two runs of a sink: the first is killed, and what wasn't durable is lost; the second ends as it should.

    Returns settings with the number of partitions, of which the last was added after both.
    """
    settings = asyncio.run(_one_run(settings, open_store(), is_killed=True))
    settings = grow(settings, settings.topics.partitions + 1)
    settings = asyncio.run(_one_run(settings, open_store(), is_killed=False))
    settings = grow(settings, settings.topics.partitions + 1)
    _publish_everywhere(settings)
    return settings


async def _one_run(settings: Settings, store: Any, is_killed: bool) -> Settings:
    """Copy, and go on when there is a partition more; returns settings that say so."""
    metrics = SinkMetrics(time.time)
    copier = Copier(settings, sources_of(settings), store, metrics, time.time, asks_every_s=0.2)
    async with store:
        copying = asyncio.create_task(copier.run(None, drain=False))
        await asyncio.to_thread(_publish_and_wait, settings, metrics)
        settings = await asyncio.to_thread(grow, settings, settings.topics.partitions + 1)
        await asyncio.to_thread(_publish_and_wait, settings, metrics)
        if is_killed:
            copying.cancel()
            await asyncio.wait({copying})
        else:
            copier.stop()
            await copying
    return settings


def _publish_and_wait(settings: Settings, metrics: SinkMetrics) -> None:
    _publish_everywhere(settings)
    there = len(committed(settings, settings.topics.visitors).records)
    wait_until(lambda: metrics.totals()["read"] == there, timeout_s=20)


def _publish_everywhere(settings: Settings) -> None:
    """To every partition that there is: visitors who have been in another one, too."""
    now_ms, partitions = int(time.time() * 1000), settings.topics.partitions
    publish(
        settings,
        [(settings.topics.visitors, n % partitions, *a_message(f"v{n}", now_ms)) for n in range(VISITORS)],
    )
