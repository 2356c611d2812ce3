"""Writes erasures: for each visitor one record to every partition of the erasures topic.

So a worker that owns partition N of the clicks needs to read only partition N here, whatever partitioner the
producer of the clicks has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas import codec
from streamer.errors import StreamerError, UsageError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments, running
from streamer.kafka.permissions import check_permissions, refusal
from streamer.kafka.topics import find_topic
from streamer.line_file import lines_of
from streamer.pipeline.decode import MAX_ID_BYTES
from streamer.pipeline.scrub import without_invisible
from streamer.settings import Settings

_AT_ONCE = 5000


class EraseError(StreamerError):
    """The cluster did not take the erasures."""


def checked_visitors(visitors: Iterable[str]) -> list[str]:
    """Each once, in order. Raises UsageError if there is none, or one that no click can have."""
    unique = list(dict.fromkeys(visitors))
    if not unique:
        raise UsageError("nobody to erase: give --visitor, or --file with one visitor_id a line")
    for number, visitor in enumerate(unique, start=1):
        try:
            size = len(visitor.encode())
        except UnicodeEncodeError:
            raise UsageError(f"visitor {number} is not UTF-8, as every visitor_id is") from None
        if not 0 < size <= MAX_ID_BYTES:
            raise UsageError(f"visitor {number} has {size} bytes, expected 1 to {MAX_ID_BYTES}")
    return unique


def listed_visitors(file: str) -> list[str]:
    """Of a file, or of standard input for `-`: one visitor_id a line; blank lines are left out.

    Raises UsageError for a list that names others than it seems to: a character that nobody sees makes
    another id, which would be erased in place of the visitor.
    """
    visitors = []
    for number, line in lines_of(Path(file), "one visitor_id a line"):
        try:
            visitor = line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError:
            raise UsageError(f"{file}, line {number}: is not UTF-8, expected one visitor_id") from None
        if visitor != without_invisible(visitor).strip() or not visitor.isprintable():
            raise UsageError(
                f"{file}, line {number}: has invisible characters, or spaces at its ends; expected one "
                "visitor_id (--visitor takes any). Nobody was erased"
            )
        visitors.append(visitor)
    return visitors


async def erase(settings: Settings, visitors: Sequence[str], requested_at: int) -> tuple[int, int]:
    """Returns the broker's time of the first and of the last record, ms UTC: clicks go up to these.

    `requested_at`: ms UTC, for people. Raises `BrokerError`, `TopicError`, `EraseError`, NotPermittedError.
    """
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    await check_permissions(settings.kafka, [Acl("topic", settings.topics.erasures, "Write")])
    topic = await find_topic(settings.kafka, settings.topics.erasures)
    producer = AIOKafkaProducer(**client_arguments(settings.kafka), enable_idempotence=True)
    times: list[int] = []
    patience_s = settings.kafka.request_timeout_ms / 1000
    try:
        async with running(producer):
            for start in range(0, len(visitors), _AT_ONCE):
                sent = [
                    await producer.send(topic.name, value, key=visitor.encode(), partition=partition)
                    for visitor in visitors[start : start + _AT_ONCE]
                    for value in [
                        codec.encode("erasure", {"visitor_id": visitor, "requested_at": requested_at})
                    ]
                    for partition in range(topic.partitions)
                ]
                done = await asyncio.wait_for(asyncio.gather(*sent), patience_s)
                times += [metadata.timestamp for metadata in done]
    except (KafkaError, TimeoutError) as error:
        raise refusal(error, f"write to topic {topic.name}") or EraseError(
            f"the cluster did not take all erasures ({type(error).__name__}): once more does no harm"
        ) from None
    return min(times), max(times)
