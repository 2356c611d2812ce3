"""Erasures on their way from their topic to the shards, while a worker runs.

Every partition of the erasures topic holds all erasures, so a shard reads only its own number, whatever
partitioner a producer of clicks has. What was there before a take-over is read by the take-over itself,
before the first click; where a shard stands is in its marker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.client import ClientArguments
from streamer.kafka.permissions import refusal
from streamer.pipeline.erasures import erased_visitor
from streamer.pipeline.partition import Partition
from streamer.worker.shard import Shard

POLL_MS = 500
RETRY_S = 1.0

log = structlog.get_logger(__name__)


def take_in_erasures(partition: Partition, records: Iterable[Any]) -> None:
    """Hand records of the erasures topic to a partition; a second time changes nothing."""
    for record in records:
        if record.offset < partition.erasures.position:
            continue
        visitor_id = erased_visitor(record.value)
        if visitor_id is not None:
            partition.erase(visitor_id, record.timestamp, record.offset)
            continue
        partition.erasures.position = record.offset + 1
        if record.value is not None:
            log.error("erasure_unreadable", partition=partition.number, offset=record.offset)


class ErasureFeed:
    """Follows the erasures of whatever shards are open."""

    def __init__(
        self,
        arguments: ClientArguments,
        topic: str,
        shards: Mapping[int, Shard],
        commit: Callable[[Shard], Awaitable[None]],
    ) -> None:
        self._arguments = arguments
        self._topic = topic
        self._shards = shards
        self._commit = commit

    async def follow(self) -> None:
        """Runs until cancelled. Raises NotPermittedError."""
        while True:
            shards = dict(self._shards)
            try:
                with only_ours():
                    await self._follow(shards)
            except KafkaError as error:
                if refused := refusal(error, f"read topic {self._topic}"):
                    raise refused from None
                log.warning("erasures_unread", topic=self._topic, error=type(error).__name__)
                await asyncio.sleep(RETRY_S)

    async def _follow(self, shards: dict[int, Shard]) -> None:
        """Read for these shards until there are others.

        With a consumer of their own: aiokafka's may hang when it is stopped after it was given others.
        """
        if not shards:
            await asyncio.sleep(POLL_MS / 1000)
            return
        consumer = AIOKafkaConsumer(
            **self._arguments,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        try:
            await consumer.start()
            consumer.assign([TopicPartition(self._topic, number) for number in shards])
            for number, shard in shards.items():
                consumer.seek(TopicPartition(self._topic, number), shard.partition.erasures.position)
            while shards == self._shards:
                for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    await self._take_in(shards[tp.partition], records)
        finally:
            await consumer.stop()

    async def _take_in(self, shard: Shard, records: list[Any]) -> None:
        take_in_erasures(shard.partition, records)
        while shard.partition.is_full and self._shards.get(shard.number) is shard:
            await self._commit(shard)
            shard.partition.resume_closing()
