"""A topic as the output of a replay: the records of the live topics, each session once.

A transaction per partition and seal. A kill between a transaction and the state that counts it is found by
reading the topic: so many records as it has too many are left out when they are made again, for a replay
makes the same records in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

from streamer.errors import StreamerError, UsageError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.client import client_arguments
from streamer.kafka.topics import Topic, create_topics, find_topic
from streamer.replay.journal import Sealed
from streamer.replay.plan import Lane
from streamer.replay.scoring import ScoredSession
from streamer.replay.sinks import messages_of, settings_topics
from streamer.settings import Settings

_BATCH_BYTES = 1024 * 1024
_TRANSACTION_MS = 60_000


class TopicSinkError(StreamerError):
    """The cluster did not take the records."""


async def prepare_topic(settings: Settings, name: str, lanes: Sequence[Lane]) -> dict[int, int]:
    """Create the topic if it isn't there; returns where each lane's partition of it ends now.

    Raises UsageError for a topic that live workers use or that has too few partitions.
    """
    if name in (*settings_topics(settings.topics), settings.changelog):
        raise UsageError(f"--out topic:{name}: live workers use this topic; expected another name")
    needed = max((lane.number for lane in lanes), default=0) + 1
    wanted = Topic(name, needed, settings.topics.replication, {"message.timestamp.type": "LogAppendTime"})
    await create_topics(settings.kafka, [wanted])
    found = await find_topic(settings.kafka, name)
    if found.partitions < needed:
        raise UsageError(f"topic {name} has {found.partitions} partitions, expected at least {needed}")
    async with _consumer(settings) as consumer:
        tps = [TopicPartition(name, lane.number) for lane in lanes]
        return {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}


class TopicSink:
    def __init__(
        self, settings: Settings, name: str, lanes: Mapping[int, Lane], sealed: Mapping[int, Sealed]
    ) -> None:
        """`sealed`: by partition, what is known to be there."""
        self._settings = settings
        self._name = name
        self._lanes = lanes
        self._sealed = {number: each.records for number, each in sealed.items()}
        self._repeated: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in sealed}
        self._producers: dict[int, AIOKafkaProducer] = {}

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        if number not in self._producers:
            await self._open(number)
        for each in scored:
            self._waiting[number] += messages_of(each)

    async def seal(self, number: int) -> Sealed:
        waiting = self._waiting[number]
        if waiting:
            repeated = min(self._repeated[number], len(waiting))
            self._repeated[number] -= repeated
            await self._transact(number, waiting[repeated:])
            self._sealed[number] += len(waiting)
            waiting.clear()
        return Sealed(self._sealed[number])

    async def close(self) -> None:
        # One that was fenced says so again.
        stops = (producer.stop() for producer in self._producers.values())
        await asyncio.gather(*stops, return_exceptions=True)

    async def _open(self, number: int) -> None:
        """Fence whoever wrote this partition before, then count what is there."""
        producer = AIOKafkaProducer(
            **client_arguments(self._settings.kafka),
            transactional_id=f"{self._settings.app.id}-replay-{self._name}-{number}",
            transaction_timeout_ms=_TRANSACTION_MS,
            max_batch_size=_BATCH_BYTES,
            max_request_size=8 * _BATCH_BYTES,
        )
        with self._explained():
            await producer.start()  # it asks for a producer id, and that fences
            self._producers[number] = producer
            there = await self._count(number)
        self._repeated[number] = there - self._sealed[number]
        if self._repeated[number] < 0:
            raise TopicSinkError(
                f"topic {self._name} partition {number} has {there} records of this replay, expected "
                f"{self._sealed[number]}: some are gone. Start over with another topic"
            )

    async def _count(self, number: int) -> int:
        tp = TopicPartition(self._name, number)
        async with _consumer(self._settings) as consumer:
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, self._lanes[number].out_start)
            count = 0
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    count += len(records)
        return count

    async def _transact(self, number: int, messages: Sequence[tuple[bytes, bytes]]) -> None:
        if not messages:
            return
        producer = self._producers[number]
        with self._explained():
            async with producer.transaction():
                batch = producer.create_batch()
                for key, value in messages:
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        await producer.send_batch(batch, self._name, partition=number)
                        batch = producer.create_batch()
                        batch.append(key=key, value=value, timestamp=None)
                await producer.send_batch(batch, self._name, partition=number)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with only_ours():
                yield
        except (KafkaError, IllegalOperation) as error:  # the latter once a send has met with a fence
            raise TopicSinkError(
                f"can't write to topic {self._name} at {self._settings.kafka.bootstrap_servers}: "
                f"{type(error).__name__}. Run the same command again to go on"
            ) from None


class _consumer:  # noqa: N801, used like a function
    def __init__(self, settings: Settings) -> None:
        self._consumer: Any = AIOKafkaConsumer(
            **client_arguments(settings.kafka),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )

    async def __aenter__(self) -> Any:
        await self._consumer.start()
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
