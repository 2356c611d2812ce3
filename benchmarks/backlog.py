"""A backlog of clicks in a real Kafka, for programs to read, and what the broker spends on them."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from benchmarks.clicks import SENTINELS, day, records, sentinels
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import load_settings

PARTITIONS = 4
BATCH_BYTES = 256 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")


class Backlog:
    """A topic of a day's first clicks and of the sentinels that close their sessions; and an empty one.

    `prefix` begins the names of all its topics and workers.
    """

    def __init__(self, kafka: EmbeddedKafka, clicks: int, visitors: int = 50_000, prefix: str = "") -> None:
        self.bootstrap = kafka.bootstrap
        self.clicks = clicks + SENTINELS * PARTITIONS
        """Records in the topic."""
        self._pid = kafka.pid
        self._prefix = prefix
        self.full, self.empty = f"{prefix}clicks", f"{prefix}empty"
        some = day(clicks, visitors)
        self.sessions = some.sessions
        """Sessions of the clicks, without those of the sentinels."""
        for topic in (self.full, self.empty):
            self.worker(topic, "prepare")
        asyncio.run(_fill(self.bootstrap, self.full, records(some)))

    def worker(self, topic: str, name: str) -> dict[str, object]:
        """Settings of a worker with topics of its own, which it creates, as dotted keys."""
        app_id = f"{self._prefix}{name}"
        outputs = ("intents", "embeddings", "visitors", "late", "dlq", "erasures")
        own = {f"topics.{output}": f"{app_id}.{output}" for output in outputs}
        kafka = {"kafka.bootstrap_servers": self.bootstrap, "topics.partitions": PARTITIONS}
        overrides = own | kafka | {"topics.clicks": topic, "app.id": app_id, "log.level": "error"}
        settings = load_settings(overrides=overrides, environ={})
        asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
        return overrides

    def broker_cpu_s(self) -> float:
        """CPU seconds that the broker has spent so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def published(self, topic: str) -> int:
        """Committed records of a topic."""
        return asyncio.run(_published(self.bootstrap, topic))


async def _fill(bootstrap: str, topic: str, clicks: Iterator[tuple[bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, linger_ms=5)
    await producer.start()
    batches = {number: producer.create_batch() for number in range(PARTITIONS)}
    for number, (key, value) in chain(_placed(clicks), _closing()):
        if batches[number].append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batches[number], topic, partition=number)
            batches[number] = producer.create_batch()
            batches[number].append(key=key, value=value, timestamp=None)
    for number, batch in batches.items():
        await producer.send_batch(batch, topic, partition=number)
    await producer.stop()


def _placed(clicks: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    return ((zlib.crc32(click[0]) % PARTITIONS, click) for click in clicks)


def _closing() -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    return ((number, click) for number in range(PARTITIONS) for click in sentinels(number))


async def _published(bootstrap: str, topic: str) -> int:
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    consumer.assign(partitions)
    ends, count = await consumer.end_offsets(partitions), 0
    while any([await consumer.position(each) < ends[each] for each in partitions]):
        batches = await consumer.getmany(timeout_ms=200, max_records=10_000)
        count += sum(map(len, batches.values()))
    await consumer.stop()
    return count
