"""Where the workers stand, all of them together, as the newest markers in their changelog say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from streamer.core.watermark import NEVER
from streamer.kafka.client import client_arguments
from streamer.kafka.topics import find_topic
from streamer.pipeline.counters import ClickCounters, total_of
from streamer.settings import Settings
from streamer.worker.changelog import Marker
from streamer.worker.log_reader import LogReader


class PartitionHealth(NamedTuple):
    """Of one partition of the topic that sessions are cut from. Times in ms UTC."""

    lag: int
    """Records that no worker has processed yet."""
    watermark: int | None
    """In event time; None before the first click."""
    behind_ms: int | None
    """How far the watermark is behind the latest arrival."""
    counters: ClickCounters


@dataclass(frozen=True)
class Health:
    """Of all partitions together."""

    partitions: Mapping[int, PartitionHealth]
    """Those that a worker has ever had."""
    counters: ClickCounters
    """Since the first click."""

    @property
    def lag(self) -> int:
        return sum(each.lag for each in self.partitions.values())

    @property
    def watermark(self) -> int | None:
        """The earliest of all partitions; None before the first click."""
        return min(
            (w for each in self.partitions.values() if (w := each.watermark) is not None), default=None
        )

    @property
    def behind_ms(self) -> int | None:
        """The largest of all partitions."""
        return max(
            (b for each in self.partitions.values() if (b := each.behind_ms) is not None), default=None
        )


def health_of(markers: Mapping[int, Marker | None], ends: Mapping[int, int]) -> Health:
    """`markers`: the newest of each partition; `ends`: the next offset of each partition of the clicks."""
    found = {number: _of_partition(m, ends.get(number, m.position)) for number, m in markers.items() if m}
    return Health(found, total_of([each.counters for each in found.values()] or [ClickCounters()]))


def _of_partition(marker: Marker, end: int) -> PartitionHealth:
    clock = marker.clock
    has_watermark = clock.watermark != NEVER
    return PartitionHealth(
        lag=max(end - marker.position, 0),
        watermark=clock.watermark if has_watermark else None,
        behind_ms=clock.now - clock.watermark if has_watermark else None,
        counters=marker.counters,
    )


async def read_health(settings: Settings) -> Health:
    """Raises KafkaError, ChangelogError, TopicError, BrokerError."""
    source = settings.session_source
    numbers = range((await find_topic(settings.kafka, settings.changelog)).partitions)
    clicks = range((await find_topic(settings.kafka, source)).partitions)
    async with LogReader(client_arguments(settings.kafka)) as reader:
        reader.assign({settings.changelog: numbers, source: clicks})
        markers = await reader.last_markers(settings.changelog, numbers)
        ends = {number: end for number, (_, end) in (await reader.bounds(source, clicks)).items()}
    return health_of(markers, ends)
