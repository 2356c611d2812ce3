"""Watching a worker from inside: what its health and its metrics are read from."""

from __future__ import annotations

import asyncio
import time

from faust.types import TP

from streamer.errors import StreamerError
from streamer.settings import Settings
from streamer.worker.health import HealthSnapshot, Limits, StallWatch, not_live, not_ready
from streamer.worker.metrics import PartitionState
from streamer.worker.table import SessionTable

LOOK_EVERY_S = 1.0


class ReplacedError(StreamerError):
    """Another process has joined the group under this worker's instance id."""


class Watch:
    """Looks at a session table every second, and whenever somebody asks."""

    def __init__(self, settings: Settings, table: SessionTable) -> None:
        self._settings = settings
        self._table = table
        self._limits = Limits(settings.worker.stalled_after_s, settings.worker.ready_max_lag)
        self._stall = StallWatch(time.monotonic())

    def states(self) -> dict[int, PartitionState]:
        """What the metrics of each partition are read from."""
        return {
            number: PartitionState(shard, self._lag(number, shard.partition.position))
            for number, shard in self._table.shards.by_number.items()
        }

    def snapshot(self) -> HealthSnapshot:
        """Where the worker stands now."""
        table, consumer, now = self._table, self._table.shards.consumer, time.monotonic()
        lag = {number: state.lag for number, state in self.states().items()}
        return HealthSnapshot(
            joined=table.shards.joined,
            assigned=frozenset(table.shards.assigned()) if consumer is not None else frozenset(),
            recovered=frozenset(table.shards.by_number),
            lag=lag,
            unanswered_for=now - consumer.answered_at if consumer is not None else 0.0,
            unread_partitions=table.source_watch.unread_partitions,
            topic_is_missing=table.source_watch.is_missing,
            stalled_for=self._stall.seen(now, sum(lag.values()), table.processing.batches),
        )

    def not_live(self) -> list[str]:
        return not_live(self.snapshot(), self._limits)

    def not_ready(self) -> list[str]:
        return not_ready(self.snapshot(), self._limits)

    async def look_regularly(self) -> None:
        """Until cancelled; a stall is seen only by looking."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.snapshot()

    def check_not_replaced(self) -> None:
        """Raises ReplacedError if another worker has taken this one's place in the group."""
        consumer, app = self._table.shards.consumer, self._settings.app
        if consumer is not None and consumer.membership.replaced:
            raise ReplacedError(
                f"another worker has joined group {app.id} as app.instance_id={app.instance_id}: give each "
                "worker a name of its own"
            )

    def _lag(self, number: int, position: int) -> int:
        consumer, drain = self._table.shards.consumer, self._table.drain
        if drain is not None:
            return drain.lag(number, position)
        return consumer.lag(TP(self._settings.topics.clicks, number), position) if consumer is not None else 0
