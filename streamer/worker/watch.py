"""Watching a worker from inside: what its health and its metrics are read from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog
from faust.types import TP

from streamer.worker.health import (
    HealthSnapshot,
    HeldUp,
    Limits,
    StallWatch,
    held_up_for_long,
    not_live,
    not_ready,
)
from streamer.worker.metrics import PartitionState
from streamer.worker.replaced import check_not_replaced
from streamer.worker.shard import ShardConfig
from streamer.worker.stages.stage_watch import LOOK_EVERY_S, StageWatch
from streamer.worker.table import SessionTable
from streamer.worker.unrecovered import Unrecovered

log = structlog.get_logger(__name__)


class Watch:
    """Looks at a session table every second, and whenever somebody asks."""

    def __init__(self, config: ShardConfig, table: SessionTable, stages: StageWatch) -> None:
        settings = config.settings
        self._stages = stages
        self._settings = settings
        self._lookup = config.registry.lookup
        self._table = table
        self.unrecovered = Unrecovered(table.shards, config.arguments, settings.app.id, config.options.start)
        self._reported: set[int] = set()
        """Partitions that are held up and were reported."""
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
        table, now = self._table, time.monotonic()
        lag = {number: state.lag for number, state in self.states().items()}
        lag |= {number: known for number, known in self.unrecovered.lags().items() if known is not None}
        held_up = table.shards.held_up(now)
        moving = sum(records for number, records in lag.items() if number not in held_up)
        if self._lookup.waiting_s:
            moving = 0  # a new process would wait for the registry as well
        return HealthSnapshot(
            joined=table.shards.joined,
            assigned=frozenset(table.shards.assigned()) if table.shards.joined else frozenset(),
            recovered=frozenset(table.shards.by_number),
            lag=lag,
            held_up=held_up,
            unanswered_for=table.shards.unanswered_for(now),
            unread_partitions=table.source_watch.unread_partitions,
            topic_is_missing=table.source_watch.is_missing,
            stalled_for=self._stall.seen(now, moving, table.processing.batches + table.shards.furthest),
        )

    def not_live(self) -> list[str]:
        return not_live(self.snapshot(), self._limits) + self._stages.not_live()

    def not_ready(self) -> list[str]:
        return not_ready(self.snapshot(), self._limits) + self._stages.not_ready()

    async def look_regularly(self) -> None:
        """Until cancelled; a stall is seen only by looking.

        Raises ReplacedError, which the client need not end for: it may try to join again for long.
        """
        # Tasks, not gather: nobody retrieves what that ends with, and asyncio reports it at every stop.
        each_asks = (self.unrecovered.ask_regularly(), self._stages.ask_regularly())
        asking = [asyncio.create_task(asks) for asks in each_asks]
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                self.check_not_replaced()
                self._stages.look()
                self._report_held_up(held_up_for_long(self.snapshot(), self._limits))
        finally:
            for asks in asking:
                asks.cancel()

    def check_not_replaced(self) -> None:
        """Raises ReplacedError if another worker has taken this one's place in a group."""
        app = self._settings.app
        check_not_replaced(self._table.shards, app.id, app)
        self._stages.check_not_replaced()

    def _report_held_up(self, held_up: Mapping[int, HeldUp]) -> None:
        """Each once, until it can be read on."""
        for number in held_up.keys() - self._reported:
            log.warning(
                "held_up_by_an_open_transaction",
                topic=self._settings.session_source,
                partition=number,
                offset=held_up[number].offset,
                todo="'kafka-transactions.sh describe-producers' names the producer",
            )
        self._reported = set(held_up)

    def _lag(self, number: int, position: int) -> int:
        consumer, drain = self._table.shards.consumer, self._table.drain
        if drain is not None:
            return drain.lag(number, position)
        if consumer is None:
            return 0
        return consumer.lag(TP(self._settings.session_source, number), position)
