"""Opening shards until it works: after a rebalance, a fence, a failed transaction or a lost position.

A fence says that somebody else may own the partition, and two owners would fence each other for ever. So
before a partition is taken over again the group has to have answered a heartbeat of this member, with the
partition still assigned. Each is taken over again by itself: a broker that fails one doesn't hold up the
others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from streamer.worker.failure import Failure
from streamer.worker.open_shards import OpenShard, OpenShards

RETRY_S = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Waits before the tries; the last is repeated."""
MOST_AT_ONCE = 4
"""Partitions that are taken over again at the same time: each has a reader of its own."""

log = structlog.get_logger(__name__)


class Retries:
    """Opens shards in the background. `spawn` runs a task of the table's service."""

    def __init__(
        self, shards: OpenShards[Any], failure: Failure, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._shards = shards
        self._failure = failure
        self._spawn = spawn
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    def open(self, numbers: Iterable[int]) -> None:
        """Take partitions over, together; those that fail, again."""
        self._spawn(self._open_together(set(numbers)))

    async def drop_and_retry(self, shard: OpenShard) -> None:
        """A shard is never repaired in memory: it is read back from its changelog."""
        await self._shards.drop(shard.number)
        self._spawn(self._open_again(shard.number))

    async def retry_if_out_of_range(self, shard: OpenShard) -> None:
        """A take-over decides what to do where the source no longer has the shard's position."""
        if self._shards.has(shard) and self._shards.is_out_of_range(shard):
            await self.drop_and_retry(shard)

    async def _open_together(self, numbers: set[int]) -> None:
        for number in await self._failed(numbers):
            self._spawn(self._open_again(number))

    async def _open_again(self, number: int) -> None:
        failed_at = time.monotonic()
        waits = iter(RETRY_S)
        while number in self._shards.missing():
            await asyncio.sleep(next(waits, RETRY_S[-1]))
            if self._is_confirmed(failed_at):
                async with self._places:
                    if await self._failed({number}):
                        failed_at = time.monotonic()

    async def _failed(self, numbers: set[int]) -> set[int]:
        """Those that a broker failed for. What no retry can mend ends the worker."""
        try:
            failed = await self._shards.open(numbers)
        except KafkaError as error:
            failed = dict.fromkeys(numbers, error)
        except Exception as error:
            self._failure.report(error)
            return set()
        for number, reason in failed.items():
            self._failure.report_if_refused(reason)
            log.warning("takeover_failed", partition=number, error=type(reason).__name__)
        return set(failed)

    def _is_confirmed(self, since: float) -> bool:
        consumer = self._shards.consumer
        return consumer is not None and consumer.membership.confirmed_at > since
