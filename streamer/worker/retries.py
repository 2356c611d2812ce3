"""Taking a failed shard over again: after a fence, a failed transaction, or a position that the source lost.

A fence says that somebody else may own the partition, and two owners would fence each other for ever. So the
group has to have answered a heartbeat of this member after the failure, with the partition still assigned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from streamer.worker.failure import Failure
from streamer.worker.open_shards import OpenShards
from streamer.worker.shard import Shard

RETRY_S = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Waits before the tries; the last is repeated."""

log = structlog.get_logger(__name__)


class Retries:
    """Opens shards that are missing, in the background. `spawn` runs a task of the table's service."""

    def __init__(
        self, shards: OpenShards, failure: Failure, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._shards = shards
        self._failure = failure
        self._spawn = spawn

    async def drop_and_retry(self, shard: Shard) -> None:
        """A shard is never repaired in memory: it is read back from its changelog."""
        await self._shards.drop(shard.number)
        self.retry({shard.number})

    async def retry_if_out_of_range(self, shard: Shard) -> None:
        """A take-over decides what to do where the source no longer has the shard's position."""
        if self._shards.has(shard) and self._shards.is_out_of_range(shard):
            await self.drop_and_retry(shard)

    def retry(self, numbers: Iterable[int]) -> None:
        """Take these partitions over as soon as the group confirms that they are this worker's."""
        wanted = set(numbers)
        if wanted:
            self._spawn(self._open(wanted))

    async def _open(self, numbers: set[int]) -> None:
        failed_at = time.monotonic()
        waits = iter(RETRY_S)
        while numbers & self._shards.missing():
            await asyncio.sleep(next(waits, RETRY_S[-1]))
            if self._is_confirmed(failed_at):
                if await self._open_now(numbers):
                    return
                failed_at = time.monotonic()

    async def _open_now(self, numbers: set[int]) -> bool:
        """Whether that is settled; a broker that fails leaves it to the next try."""
        async with self._shards.taking_over:
            missing = numbers & self._shards.missing()
            try:
                await self._shards.open(missing)
            except KafkaError as error:
                self._failure.report_if_refused(error)
                log.warning("takeover_failed", partitions=sorted(missing), error=type(error).__name__)
                return False
            except Exception as error:
                self._failure.report(error)
            for number in missing & self._shards.by_number.keys():
                self._shards.seek(number)
        return True

    def _is_confirmed(self, since: float) -> bool:
        consumer = self._shards.consumer
        return consumer is not None and consumer.membership.confirmed_at > since
