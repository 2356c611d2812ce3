"""Deleting what a log no longer needs, with DeleteRecords (KIP-107)."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamer.kafka.client import ClientArguments

log = structlog.get_logger(__name__)


async def trim(arguments: ClientArguments, topic: str, offsets: Mapping[int, int]) -> None:
    """Delete records of the topic's partitions before these offsets.

    A failure is logged and nothing else: the next call will do.
    """
    wanted = {
        TopicPartition(topic, number): RecordsToDelete(before_offset=offset)
        for number, offset in offsets.items()
    }
    admin = AIOKafkaAdminClient(**arguments)
    try:
        await admin.start()
        await admin.delete_records(wanted)
    except KafkaError as error:
        log.warning("topic_not_trimmed", topic=topic, error=type(error).__name__)
    finally:
        await admin.close()
