"""Clicks of a topic read and parsed, and nothing else: by bare aiokafka, or through Faust in batches.

Run as a program: `python -m benchmarks.delivery bare|delivery BOOTSTRAP TOPIC`; prints what it took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from faust.types import TP
from mode import Service

from benchmarks.spent import Spent
from streamer.kafka.client import client_arguments
from streamer.settings import KafkaSettings, load_settings
from streamer.worker import event_loop
from streamer.worker.app import Stage, create_app
from streamer.worker.memory import settle_memory
from streamer.worker.transport import RecordBatch


async def bare(bootstrap: str, topic: str) -> None:
    """A loop over getmany."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    ends = await assign(consumer, topic)
    count = 0
    while count < sum(ends.values()):
        for records in (await consumer.getmany(timeout_ms=500, max_records=2000)).values():
            for record in records:
                orjson.loads(record.value)
            count += len(records)
    await consumer.stop()


async def delivery(bootstrap: str, topic: str) -> None:
    """The worker's transport and agent, with a table that only parses."""
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await reader.start()
    ends = await assign(reader, topic)
    await reader.stop()
    settle_memory()
    table = _ParsingTable(topic, sum(ends.values()))
    settings = load_settings(
        overrides={
            "kafka.bootstrap_servers": bootstrap,
            "topics.clicks": topic,
            "app.id": f"delivery-{time.time_ns()}",
        },
        environ={},
    )
    stage = Stage("parse", settings.app.id, topic, table.process)
    app = create_app(settings, client_arguments(settings.kafka), table, stage)
    await app.start()
    await table.done.wait()
    await app.stop()


class _ParsingTable(Service):
    """Stands where the session table stands, from the first offset on."""

    abstract = False
    consumer: Any = None
    partitions = 4

    def __init__(self, topic: str, expected: int) -> None:
        super().__init__()
        self.shards: Any = self
        self.rebalance: Any = self
        self.failure: Any = self
        self.done = asyncio.Event()
        self.count = 0
        self._topic = topic
        self._expected = expected

    async def on_assigned(self) -> None:
        for tp in self.consumer.assignment():
            self.consumer.request_seek(tp, 0)
        self._check_done()

    async def on_revoked(self) -> None:
        pass

    async def process(self, batch: RecordBatch) -> None:
        for record in batch.records:
            orjson.loads(record.value)
        self.count += len(batch.records)
        self._check_done()

    def _check_done(self) -> None:
        if self.count >= self._expected:
            self.done.set()

    def committed_positions(self) -> dict[TP, int]:
        return {}

    def report(self, error: BaseException) -> None:
        raise error


async def assign(consumer: AIOKafkaConsumer, topic: str) -> dict[TopicPartition, int]:
    """Give a consumer the whole topic from its first record on; returns where each partition ends."""
    partitions = [TopicPartition(topic, number) for number in range(4)]
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    return dict(await consumer.end_offsets(partitions))


if __name__ == "__main__":
    spent = Spent()
    if sys.argv[1] == "bare":
        asyncio.run(bare(*sys.argv[2:4]))
    else:
        event_loop.run(delivery(*sys.argv[2:4]), KafkaSettings())
    spent.show()
