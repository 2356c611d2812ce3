"""A backlog of clicks in a real Kafka, for programs to read, and what the broker spends on them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from benchmarks.clicks import SENTINELS, day, records, sentinels
from benchmarks.installation import PARTITIONS, broker_cpu_s, installed
from streamer.kafka.embedded import EmbeddedKafka

BATCH_BYTES = 256 * 1024


class Backlog:
    """A topic of a day's first clicks and of the sentinels that close their sessions; and an empty one.

    `prefix` begins the names of all its topics and workers; `form` makes another format of a JSON click;
    `time_of` gives its record a time, ms UTC, in topics with CreateTime.
    """

    def __init__(
        self,
        kafka: EmbeddedKafka,
        clicks: int,
        visitors: int = 50_000,
        prefix: str = "",
        form: Callable[[bytes], bytes] = bytes,
        time_of: Callable[[bytes], int] | None = None,
    ) -> None:
        self.bootstrap = kafka.bootstrap
        self.clicks = clicks + SENTINELS * PARTITIONS
        """Records in the topic."""
        self._kafka = kafka
        self._prefix = prefix
        self.full, self.empty = f"{prefix}clicks", f"{prefix}empty"
        some = day(clicks, visitors)
        self.sessions = some.sessions
        """Sessions of the clicks, without those of the sentinels."""
        for topic in (self.full, self.empty):
            self.worker(topic, "prepare", **({} if time_of is None else {"clicks__arrival": "create_time"}))
        asyncio.run(_fill(self.bootstrap, self.full, records(some), form, time_of))

    def worker(self, topic: str, name: str, **more: object) -> dict[str, object]:
        """Settings of a worker with topics of its own, which it creates, as dotted keys."""
        return installed(self.bootstrap, f"{self._prefix}{name}", topic, **more)

    def broker_cpu_s(self) -> float:
        """CPU seconds that the broker has spent so far."""
        return broker_cpu_s(self._kafka)

    def published(self, topic: str) -> list[int]:
        """When each committed record of a topic was appended (ms UTC), rising."""
        return sorted(asyncio.run(_published(self.bootstrap, topic)))


async def _fill(
    bootstrap: str,
    topic: str,
    clicks: Iterator[tuple[bytes, bytes]],
    form: Callable[[bytes], bytes],
    time_of: Callable[[bytes], int] | None,
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, linger_ms=5)
    await producer.start()
    batches = {number: producer.create_batch() for number in range(PARTITIONS)}
    for number, (key, json) in chain(_placed(clicks), _closing()):
        value, at = form(json), None if time_of is None else time_of(json)
        if batches[number].append(key=key, value=value, timestamp=at) is None:
            await producer.send_batch(batches[number], topic, partition=number)
            batches[number] = producer.create_batch()
            batches[number].append(key=key, value=value, timestamp=at)
    for number, batch in batches.items():
        await producer.send_batch(batch, topic, partition=number)
    await producer.stop()


def _placed(clicks: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    return ((zlib.crc32(click[0]) % PARTITIONS, click) for click in clicks)


def _closing() -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    return ((number, click) for number in range(PARTITIONS) for click in sentinels(number))


def committed_reader(bootstrap: str, **more: Any) -> AIOKafkaConsumer:
    """Reads what is committed, from the beginning, of no group; to be started and assigned."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **more,
    )


async def _published(bootstrap: str, topic: str) -> list[int]:
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = committed_reader(bootstrap)
    await consumer.start()
    consumer.assign(partitions)
    ends, appended = await consumer.end_offsets(partitions), list[int]()
    while any([await consumer.position(each) < ends[each] for each in partitions]):
        batches = await consumer.getmany(timeout_ms=200, max_records=10_000)
        appended += [record.timestamp for records in batches.values() for record in records]
    await consumer.stop()
    return appended
