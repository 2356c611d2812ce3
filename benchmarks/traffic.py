"""Bytes appended to topics since a moment: keys and values as committed, headers and framing left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from benchmarks.installation import PARTITIONS

Offsets = Mapping[TopicPartition, int]


def ends(bootstrap: str, topics: Iterable[str]) -> Offsets:
    """Where the topics end now."""
    return asyncio.run(_ends(bootstrap, topics))


def appended(bootstrap: str, since: Offsets) -> int:
    """Bytes from these offsets on."""
    return asyncio.run(_appended(bootstrap, since))


@asynccontextmanager
async def _reading(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _ends(bootstrap: str, topics: Iterable[str]) -> Offsets:
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
    async with _reading(bootstrap) as consumer:
        return dict(await consumer.end_offsets(partitions))


async def _appended(bootstrap: str, since: Offsets) -> int:
    size = 0
    async with _reading(bootstrap) as consumer:
        until = await consumer.end_offsets(list(since))
        consumer.assign(list(since))
        for partition, offset in since.items():
            consumer.seek(partition, offset)
        while any([await consumer.position(each) < until[each] for each in since]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                size += sum(len(record.key or b"") + len(record.value or b"") for record in records)
    return size
