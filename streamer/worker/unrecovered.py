"""Partitions of a stage that wait to be taken over, and how far each is behind meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.client import ClientArguments
from streamer.kafka.start import Start
from streamer.worker.log_reader import unread
from streamer.worker.open_shards import OpenShards

ASK_EVERY_S = 5.0
"""How often the brokers are asked for the lag of partitions that wait to be taken over; most never do."""

log = structlog.get_logger(__name__)


class Unrecovered:
    """Assigned partitions without a shard; nobody fetches them, and a take-over may hang for long."""

    def __init__(
        self, shards: OpenShards[Any], arguments: ClientArguments, group: str, start: Start = "earliest"
    ) -> None:
        """`start`: where the group begins to read what it has not read before."""
        self._shards = shards
        self._arguments = arguments
        self._group = group
        self._start = start
        self._unread: dict[int, int] = {}
        """Lag as the brokers last said."""

    def lags(self) -> dict[int, int | None]:
        """Records behind by partition; None where that is not known yet."""
        missing = self._shards.missing() if self._shards.joined else set()
        return {number: self._unread.get(number) for number in missing}

    async def ask_regularly(self) -> None:
        """Keep the lags known, until cancelled."""
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            missing = self.lags().keys()
            if not missing:
                self._unread = {}
                continue
            try:
                with only_ours():
                    self._unread = await unread(
                        self._arguments, self._group, self._shards.topic, missing, self._start
                    )
            except (StreamerError, KafkaError, OSError) as error:  # what was known last stays
                log.debug("lag_unknown", error=type(error).__name__)
