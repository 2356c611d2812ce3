"""Topics that a stage reads beside its source: each of its shards the partition with its own number.

What is written to them is written to every partition, so a shard sees all of it, whatever partitioner the
producers of the source have. How far a shard has read is in its marker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.client import ClientArguments, committed_reader
from streamer.kafka.permissions import refusal

POLL_MS = 500
RETRY_S = 1.0

log = structlog.get_logger(__name__)

S = TypeVar("S")


class SideInputs(Generic[S]):
    """Follows topics for whatever shards are open."""

    def __init__(
        self,
        arguments: ClientArguments,
        topics: tuple[str, ...],
        shards: Mapping[int, S],
        position: Callable[[S, str], int],
        take_in: Callable[[S, str, list[Any], int | None], Awaitable[None]],
    ) -> None:
        """`position` gives the next offset of a topic that a shard has to read; `take_in` gets the records
        that came, or none and the offset of the end, once that is reached."""
        self._arguments = arguments
        self._topics = topics
        self._shards = shards
        self._position = position
        self._take_in = take_in

    async def follow(self) -> None:
        """Runs until cancelled. Raises NotPermittedError."""
        while True:
            shards = dict(self._shards)
            try:
                with only_ours():
                    await self._follow(shards)
            except KafkaError as error:
                if refused := refusal(error, f"read topic {' or '.join(self._topics)}"):
                    raise refused from None
                log.warning("side_inputs_unread", topics=self._topics, error=type(error).__name__)
                await asyncio.sleep(RETRY_S)

    async def _follow(self, shards: dict[int, S]) -> None:
        """Read for these shards until there are others.

        With a consumer of their own: aiokafka's may hang when it is stopped after it was given others.
        """
        if not shards:
            await asyncio.sleep(POLL_MS / 1000)
            return
        consumer = committed_reader(self._arguments)
        tps = {
            TopicPartition(topic, number): shard for topic in self._topics for number, shard in shards.items()
        }
        try:
            await consumer.start()
            consumer.assign(list(tps))
            for tp, shard in tps.items():
                consumer.seek(tp, self._position(shard, tp.topic))
            while shards == self._shards:
                found = await consumer.getmany(timeout_ms=POLL_MS)
                for tp, shard in tps.items():
                    if tp in found:
                        await self._take_in(shard, tp.topic, found[tp], None)
                    elif (end := await _end_reached(consumer, tp)) is not None:
                        await self._take_in(shard, tp.topic, [], end)
        finally:
            await consumer.stop()


async def _end_reached(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    end: int | None = consumer.last_stable_offset(tp)
    return end if end is not None and await consumer.position(tp) >= end else None
