"""Writes records of which every partition gets a copy.

So a worker that owns partition N of the clicks needs to read only partition N of such a topic, whatever
partitioner the producer of the clicks has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streamer.errors import StreamerError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments, running
from streamer.kafka.permissions import check_permissions, refusal
from streamer.kafka.topics import find_topic
from streamer.settings import KafkaSettings

_AT_ONCE = 5000


class NotTakenError(StreamerError):
    """The cluster did not take all records."""


async def write_everywhere(
    kafka: KafkaSettings, topic: str, records: Sequence[tuple[bytes, bytes]], what: str
) -> tuple[int, int]:
    """Writes keys and values, in order; returns the broker's time of the first and of the last copy, ms UTC.

    `what` they are, for errors: "erasures". Raises `BrokerError`, `TopicError`, NotTakenError,
    NotPermittedError.
    """
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    await check_permissions(kafka, [Acl("topic", topic, "Write")])
    partitions = (await find_topic(kafka, topic)).partitions
    producer = AIOKafkaProducer(**client_arguments(kafka), enable_idempotence=True)
    times: list[int] = []
    try:
        async with running(producer):
            for start in range(0, len(records), _AT_ONCE):
                sent = [
                    await producer.send(topic, value, key=key, partition=partition)
                    for key, value in records[start : start + _AT_ONCE]
                    for partition in range(partitions)
                ]
                done = await asyncio.wait_for(asyncio.gather(*sent), kafka.request_timeout_ms / 1000)
                times += [metadata.timestamp for metadata in done]
    except (KafkaError, TimeoutError) as error:
        raise refusal(error, f"write to topic {topic}") or NotTakenError(
            f"the cluster did not take all {what} ({type(error).__name__}): once more does no harm"
        ) from None
    return min(times), max(times)
