"""Reads a topic of the product from a chosen place, outside any consumer group.

Only committed records are seen, and a record of a transaction that is still open is waited for, so what
comes out of here is what every reader with read_committed gets, in order within each partition. Partitions
that are added meanwhile are read from their beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import chain
from typing import Any

from streamer.errors import StreamerError
from streamer.kafka.acls import Acl
from streamer.kafka.client import running
from streamer.kafka.following import ASKS_EVERY_S, following_reader, have_been_added, read_on
from streamer.kafka.permissions import check_permissions
from streamer.kafka.start import Start
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
    asks_every_s: float = ASKS_EVERY_S,
) -> AsyncGenerator[Any, None]:
    """aiokafka's ConsumerRecords. Ends after `limit` records or `timeout_s` without one; else never.

    Without one means at the end of the topic: brokers that don't answer are an error then. `asks_every_s`:
    how often brokers are asked for added partitions.

    Raises `BrokerError`, `TopicError`, `SubscribeError`.
    """
    from aiokafka.errors import KafkaError

    await check_permissions(kafka, [Acl("topic", topic, "Read")])
    count, last = 0, time.monotonic()
    try:
        async with aclosing(_polls(kafka, topic, start, asks_every_s)) as polls:
            async for consumer, found in polls:
                for record in found:
                    count += 1
                    yield record
                    if count == limit:
                        return
                if found:
                    last = time.monotonic()
                elif timeout_s is not None and time.monotonic() - last >= timeout_s:
                    if await _is_at_end(consumer):
                        return
                    last = time.monotonic()
    except KafkaError as error:
        raise SubscribeError(
            f"can't read {topic} at {kafka.bootstrap_servers}: {type(error).__name__}"
        ) from None


async def _polls(
    kafka: KafkaSettings, topic: str, start: Start, asks_every_s: float
) -> AsyncGenerator[tuple[Any, list[Any]], None]:
    """The consumer, and the records of a poll, without end."""
    counts, positions = {topic: (await find_topic(kafka, topic)).partitions}, dict[Any, int]()
    while True:
        async with running(following_reader(kafka, asks_every_s)) as consumer:
            await read_on(consumer, counts, positions, start)
            while not have_been_added(consumer, counts):
                fetched = await consumer.getmany(timeout_ms=_POLL_MS)
                positions |= {tp: records[-1].offset + 1 for tp, records in fetched.items()}
                yield consumer, list(chain.from_iterable(fetched.values()))
                await asyncio.sleep(0)


async def _is_at_end(consumer: Any) -> bool:
    """Whether all that is committed has been read. Raises KafkaError where no broker answers."""
    ends = await consumer.end_offsets(list(consumer.assignment()))
    return all([await consumer.position(tp) >= end for tp, end in ends.items()])
