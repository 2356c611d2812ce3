"""Reads a topic of the product from a chosen place, outside any consumer group.

Only committed records are seen, and a record of a transaction that is still open is waited for, so what
comes out of here is what every reader with read_committed gets, in order within each partition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from streamer.errors import StreamerError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments, committed_reader, running
from streamer.kafka.permissions import check_permissions
from streamer.kafka.start import Start, seek
from streamer.kafka.topics import find_topic
from streamer.settings import KafkaSettings

_POLL_MS = 200


class SubscribeError(StreamerError):
    """The cluster does not let us read on."""


async def records(
    kafka: KafkaSettings,
    topic: str,
    start: Start = "earliest",
    limit: int | None = None,
    timeout_s: float | None = None,
) -> AsyncIterator[Any]:
    """aiokafka's ConsumerRecords. Ends after `limit` records or `timeout_s` without one; else never.

    Without one means at the end of the topic: brokers that don't answer are an error then.

    Raises `BrokerError`, `TopicError`, `SubscribeError`.
    """
    from aiokafka.errors import KafkaError

    await check_permissions(kafka, [Acl("topic", topic, "Read")])
    found = await find_topic(kafka, topic)
    consumer = committed_reader(client_arguments(kafka))
    try:
        async with running(consumer):
            await _assign(consumer, topic, found.partitions, start)
            async for record in _polled(consumer, limit, timeout_s):
                yield record
    except KafkaError as error:
        raise SubscribeError(
            f"can't read {topic} at {kafka.bootstrap_servers}: {type(error).__name__}"
        ) from None


async def _assign(consumer: Any, topic: str, partitions: int, start: Start) -> None:
    from aiokafka import TopicPartition

    assigned = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(assigned)
    await seek(consumer, assigned, start)


async def _polled(consumer: Any, limit: int | None, timeout_s: float | None) -> AsyncIterator[Any]:
    count = 0
    last = time.monotonic()
    while limit is None or count < limit:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=limit and limit - count)
        for batch in batches.values():
            for record in batch:
                count += 1
                yield record
        if batches:
            last = time.monotonic()
        elif timeout_s is not None and time.monotonic() - last >= timeout_s:
            if await _is_at_end(consumer):
                return
            last = time.monotonic()
        await asyncio.sleep(0)


async def _is_at_end(consumer: Any) -> bool:
    """Whether all that is committed has been read. Raises KafkaError where no broker answers."""
    ends = await consumer.end_offsets(list(consumer.assignment()))
    return all([await consumer.position(tp) >= end for tp, end in ends.items()])
