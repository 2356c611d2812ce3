"""Deleting what the changelog no longer needs, with DeleteRecords (KIP-107)."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamer.worker.kill_points import KillPoint
from streamer.worker.takeover import ShardParts

log = structlog.get_logger(__name__)


async def trim_changelog(parts: ShardParts, offsets: Mapping[int, int]) -> None:
    """Delete records of the changelog's partitions before these offsets.

    A failure is logged and nothing else: the next call will do.
    """
    changelog = parts.settings.changelog
    wanted = {
        TopicPartition(changelog, number): RecordsToDelete(before_offset=offset)
        for number, offset in offsets.items()
    }
    admin = AIOKafkaAdminClient(**parts.arguments)
    try:
        await admin.start()
        parts.reach(KillPoint.WHILE_TRIMMING)
        await admin.delete_records(wanted)
    except KafkaError as error:
        log.warning("changelog_not_trimmed", topic=changelog, error=type(error).__name__)
    finally:
        await admin.close()
