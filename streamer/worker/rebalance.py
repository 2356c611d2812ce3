"""What a worker does when the group's assignment changes."""

from __future__ import annotations

import asyncio

import structlog
from aiokafka.errors import KafkaError

from streamer.worker.commit_loop import CommitLoop
from streamer.worker.failure import Failure
from streamer.worker.open_shards import OpenShards
from streamer.worker.retries import Retries

log = structlog.get_logger(__name__)


class Rebalance:
    """Opens what is newly assigned, drops what has moved on, commits before others take over."""

    def __init__(
        self,
        shards: OpenShards,
        commits: CommitLoop,
        retries: Retries,
        failure: Failure,
    ) -> None:
        self._shards = shards
        self._commits = commits
        self._retries = retries
        self._failure = failure

    async def on_assigned(self) -> None:
        """Take over what is newly assigned, give up what is not assigned any more, go on with the rest."""
        async with self._shards.taking_over:
            try:
                await self._take_up(self._shards.assigned())
            except KafkaError as error:
                self._failure.report_if_refused(error)
                log.warning("takeover_failed", error=type(error).__name__)
                self._retries.retry(self._shards.missing())
            except Exception as error:
                self._failure.report(error)

    async def on_revoked(self) -> None:
        """Make durable what was processed: whoever gets a partition goes on from there."""
        shards = list(self._shards.by_number.values())
        await asyncio.gather(*(self._commits.commit(shard) for shard in shards))
        if self._shards.consumer is not None:
            await self._shards.consumer.commit()

    async def shut_down(self) -> None:
        """Commit what was processed and let go of every shard. Drains nothing."""
        await self.on_revoked()
        for number in list(self._shards.by_number):
            await self._shards.drop(number)

    async def _take_up(self, assigned: set[int]) -> None:
        for number in self._shards.by_number.keys() - assigned:
            await self._shards.drop(number)
        self._shards.joined = True
        await self._shards.open(assigned - self._shards.by_number.keys())
        for number in self._shards.by_number:
            self._shards.seek(number)
