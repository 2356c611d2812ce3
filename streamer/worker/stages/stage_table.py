"""The table of a stage beside that of the sessions: one shard per assigned partition, as an app's service."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from faust.types import TP
from mode import Service

from streamer.logs import FAUST_SERVICES
from streamer.pipeline.dead_letter_limit import TooManyDeadLetters
from streamer.pipeline.registered import UnknownSchema
from streamer.worker.commits import Commits
from streamer.worker.failure import Failure, too_many
from streamer.worker.health import HealthSnapshot, StallWatch
from streamer.worker.metrics import Metrics, StageLevels
from streamer.worker.open_shards import OpenShards
from streamer.worker.rebalance import Rebalance
from streamer.worker.side_inputs import SideInputs
from streamer.worker.stages.stage_shard import StageConfig, StageShard
from streamer.worker.stages.stage_takeover import take_over_stage
from streamer.worker.takeover_retries import Retries
from streamer.worker.transport import RecordBatch
from streamer.worker.unrecovered import Unrecovered


class StageTable(Service):
    """Faust's rebalances go to `rebalance`, the agent's batches to `process`."""

    abstract = False
    logger = FAUST_SERVICES

    def __init__(self, config: StageConfig, metrics: Metrics, failure: Failure) -> None:
        super().__init__()
        self.config = config
        self.failure = failure
        self.shards: OpenShards[StageShard] = OpenShards(
            config.source,
            config.partitions,
            partial(take_over_stage, config),
            config.reach,
            "states",
        )
        self.unrecovered = Unrecovered(self.shards, config.arguments, config.group)
        retries = Retries(self.shards, failure, self.add_future)
        self._commits = _Commits(self.shards, retries, failure, metrics, config)
        self.shards.on_opened = lambda shard: self.add_future(self._commits.run(shard))
        self.rebalance = Rebalance(self.shards, self._commits, retries)
        self._stall = StallWatch(time.monotonic())
        self.batches = 0
        """Finished so far."""
        self._side_inputs: SideInputs[StageShard] = SideInputs(
            config.arguments,
            config.side_inputs,
            self.shards.by_number,
            lambda shard, topic: shard.positions[topic],
            self._take_in,
        )

    @property
    def partitions(self) -> int:
        """Partitions of the source that are used, from the first on."""
        return self.config.partitions

    def committed_positions(self) -> dict[TP, int]:
        """Source positions that are durable."""
        return self.shards.committed_positions()

    async def process(self, batch: RecordBatch) -> None:
        """Take in a batch; waits for a commit while too much is in memory."""
        shard = self.shards.by_number.get(batch.tp.partition)
        if shard is None or batch.seek_count != shard.seek_count:
            return
        chunk = self.config.chunk_records
        for start in range(0, len(batch.records), chunk):
            await self.take_in_order(shard, batch.records[start : start + chunk])
        self.batches += 1

    async def take_in_order(self, shard: StageShard, records: list[Any]) -> None:
        """Process the next records of a shard; not where it has been dropped meanwhile."""
        if not self.shards.has(shard):
            return
        try:
            await self._process_chunk(shard, records)
        except TooManyDeadLetters as limit:
            await self._commits.commit(shard)
            raise too_many(limit) from None
        except Exception:  # half of a record may be in its state, which no commit shall make durable
            await self.shards.drop(shard.number)
            raise
        if shard.position - shard.committed_position > self.config.commit_at:
            await self._commits.commit(shard)
        elif self._commits.hurries(shard):
            shard.due.set()
        await asyncio.sleep(0)

    async def _process_chunk(self, shard: StageShard, records: list[Any]) -> None:
        while self.shards.has(shard):
            try:
                shard.process(records)
            except UnknownSchema as unknown:
                await self.config.registry.lookup.learn(unknown.prefix, lambda: self.shards.has(shard))
            else:
                return

    async def commit_all(self) -> None:
        """Commit everything that was read so far, for whoever waits for it."""
        for shard in list(self.shards.by_number.values()):
            if self.shards.has(shard):  # a rebalance may have dropped it meanwhile
                self._commits.pass_by_markers(shard)
                await self._commits.commit(shard)

    @property
    def lag(self) -> int:
        """Records of the source that the shards have still to process."""
        return sum(self.shards.lag(shard) for shard in self.shards.by_number.values())

    def levels(self) -> StageLevels:
        """Where the stage stands, for the metrics."""
        shards, unrecovered = self.shards.by_number, self.unrecovered.lags()
        lag = {number: self.shards.lag(shard) for number, shard in shards.items()}
        return StageLevels(
            self.config.name,
            lag=lag | {number: known for number, known in unrecovered.items() if known is not None},
            keys={number: shard.size for number, shard in shards.items()},
            sessions={number: shard.stage.sessions for number, shard in shards.items()},
            unrecovered=len(unrecovered),
        )

    def snapshot(self) -> HealthSnapshot:
        """Where the stage stands, for its health. A stall is seen only by looking again and again."""
        shards, now = self.shards, time.monotonic()
        lag, held_up = self.levels().lag, shards.held_up(now)
        moving = sum(records for number, records in lag.items() if number not in held_up)
        if self.config.registry.lookup.waiting_s:
            moving = 0  # a new process would wait for the registry as well
        return HealthSnapshot(
            joined=shards.joined,
            assigned=frozenset(shards.assigned()) if shards.joined else frozenset(),
            recovered=frozenset(shards.by_number),
            lag=lag,
            held_up=held_up,
            unanswered_for=shards.unanswered_for(now),
            source=self.config.source,
            stalled_for=self._stall.seen(now, moving, self.batches + shards.furthest),
        )

    async def _take_in(self, shard: StageShard, topic: str, records: list[Any], end: int | None) -> None:
        shard.take_in(topic, records, end)

    @Service.task
    async def _follow_side_inputs(self) -> None:
        try:
            await self._side_inputs.follow()
        except Exception as error:
            self.failure.report(error)


class _Commits(Commits[StageShard]):
    """Commits shards at an interval, and when a customer has logged in."""

    def __init__(
        self,
        shards: OpenShards[StageShard],
        retries: Retries,
        failure: Failure,
        metrics: Metrics,
        config: StageConfig,
    ) -> None:
        note = partial(metrics.stage_committed, config.name)
        super().__init__(shards, retries, failure, metrics.failed_commits, note)
        self._config = config

    async def run(self, shard: StageShard) -> None:
        """Until the shard is dropped."""
        committed_at = 0.0
        interval = self._config.settings.commit.interval_ms / 1000
        while self._shards.has(shard):
            began = time.monotonic()
            try:
                self.pass_by_markers(shard)
                if shard.hurries or began - committed_at > self._config.unhurried_s:
                    await self.commit(shard)
                    committed_at = began
                await self._retries.retry_if_out_of_range(shard)
            except Exception as error:
                self._failure.report(error)
            await self.pause(shard, began, self.at_most_every(interval), full_at=self._config.commit_at)

    def pass_by_markers(self, shard: StageShard) -> None:
        """Where everything is read, the end of the last transaction is read too: the group's offset is then
        the end of the source, by which others see that the stage has come so far."""
        empty = self._shards.empty_fetch(shard)
        if empty is not None and empty.records_end <= shard.position < empty.offset:
            shard.positions[self._config.source] = empty.offset
