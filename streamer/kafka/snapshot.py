"""All committed records that a topic holds at this moment, and nothing that comes after."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments, committed_reader, running
from streamer.kafka.permissions import check_permissions, refusal
from streamer.kafka.produce import visitor_key
from streamer.kafka.start import Start, seek
from streamer.kafka.subscribe import SubscribeError
from streamer.kafka.topics import find_topic
from streamer.schemas import codec
from streamer.settings import KafkaSettings

_FETCH_BYTES = 4 * 1024 * 1024
_POLL_MS = 1000


def visitors_of(key: bytes | None, value: bytes | None) -> set[str]:
    """Whose a record is: by its key, and by what it says, for a producer may key by other things."""
    named = {key, visitor_key(value or b"")}
    if value and value[0] == codec.MAGIC:
        with contextlib.suppress(codec.CodecError):
            named.add(codec.decode(value)[1]["visitor_id"].encode())
    return {name.decode(errors="replace") for name in named if name is not None}


class _UserOf(msgspec.Struct, gc=False):
    user_id: str | None = None


_json_user = msgspec.json.Decoder(_UserOf)


def user_of(value: bytes | None) -> str | None:
    """The customer whom a record names, if it does; a click or link in JSON, or anything in Avro."""
    if not value:
        return None
    user_id: str | None = None
    if value[0] == codec.MAGIC:
        with contextlib.suppress(codec.CodecError):
            user_id = codec.decode(value)[1].get("user_id")
    else:
        with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            user_id = _json_user.decode(value).user_id
    return user_id


async def snapshot(kafka: KafkaSettings, topic: str, start: Start = "earliest") -> AsyncIterator[Any]:
    """aiokafka's ConsumerRecords, in order within each partition.

    Raises `BrokerError`, `TopicError`, `SubscribeError`, NotPermittedError.
    """
    from aiokafka import TopicPartition
    from aiokafka.errors import KafkaError

    await check_permissions(kafka, [Acl("topic", topic, "Read")])
    found = await find_topic(kafka, topic)
    consumer = committed_reader(client_arguments(kafka), max_partition_fetch_bytes=_FETCH_BYTES)
    try:
        async with running(consumer):
            tps = [TopicPartition(topic, number) for number in range(found.partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            await seek(consumer, tps, start)
            behind = {tp for tp in tps if await consumer.position(tp) < ends[tp]}
            while behind:
                fetched = await consumer.getmany(*behind, timeout_ms=_POLL_MS)
                for tp, records in fetched.items():
                    for record in records:
                        if record.offset < ends[tp]:
                            yield record
                behind = {tp for tp in behind if await consumer.position(tp) < ends[tp]}
                if not fetched:
                    await consumer.end_offsets(list(behind))  # which fails where no broker answers
    except KafkaError as error:
        raise refusal(error, f"read topic {topic}") or SubscribeError(
            f"can't read {topic} at {kafka.bootstrap_servers}: {type(error).__name__}"
        ) from None
