"""Topics that are read for as long as a process runs: partitions may be added to them meanwhile.

Brokers are asked again and again how many there are. What was added is read from its first record, and
all else goes on where it was. That takes a new consumer: aiokafka's may hang when it is stopped after it was
given other partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from streamer.kafka.client import client_arguments, committed_reader
from streamer.kafka.start import Start, offsets_at
from streamer.settings import KafkaSettings

ASKS_EVERY_S = 30.0
"""How often brokers are asked how many partitions there are."""

log = structlog.get_logger(__name__)


def following_reader(kafka: KafkaSettings, asks_every_s: float, **options: Any) -> Any:
    """A `committed_reader`, for which `have_been_added` sees within `asks_every_s` what was added."""
    asks = {"metadata_max_age_ms": round(asks_every_s * 1000)}
    return committed_reader(client_arguments(kafka), **(asks | options))


def have_been_added(consumer: Any, counts: dict[str, int]) -> bool:
    """Whether topics have more partitions than `counts` says, which has the new numbers then."""
    added = False
    for topic, before in counts.items():
        found = len(consumer.partitions_for_topic(topic) or ())
        if found > before:
            log.warning("partitions_added", topic=topic, before=before, now=found)
            counts[topic], added = found, True
    return added


async def read_on(consumer: Any, counts: Mapping[str, int], positions: dict[Any, int], start: Start) -> None:
    """Assign all partitions, and read on at `positions`, offsets of the next records.

    It gets what it lacks: the offsets at `start` where it is empty, and else the first ones, for these were
    added later.
    """
    from aiokafka import TopicPartition

    tps = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
    consumer.assign(tps)
    new = [tp for tp in tps if tp not in positions]
    positions |= await offsets_at(consumer, new, "earliest" if positions else start)
    for tp in tps:
        consumer.seek(tp, positions[tp])
