"""The session table: one shard per assigned partition, as a service of the Faust app.

It composes what each module does: `rebalance` opens and drops shards as partitions are assigned, `processing`
takes batches in, `commit_loop` makes them durable, `retries` takes failed shards over again, `changelog_trim`
and `erasure_feed` run beside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from faust.types import TP
from mode import Service

from streamer.logs import FAUST_SERVICES
from streamer.worker.changelog_trim import trim_regularly
from streamer.worker.commit_loop import CommitLoop
from streamer.worker.draining import Drain
from streamer.worker.erasure_feed import take_in_erasures
from streamer.worker.failure import Failure
from streamer.worker.metrics import Metrics
from streamer.worker.open_shards import OpenShards, TakenOver
from streamer.worker.processing import Processing
from streamer.worker.rebalance import Rebalance
from streamer.worker.shard import Shard, ShardConfig
from streamer.worker.side_inputs import SideInputs
from streamer.worker.source_watch import SourceWatch
from streamer.worker.takeover import take_over
from streamer.worker.takeover_retries import Retries


class SessionTable(Service):
    """Faust's rebalances go to `rebalance`, the agent's batches to `processing`."""

    abstract = False
    logger = FAUST_SERVICES

    def __init__(
        self,
        config: ShardConfig,
        metrics: Metrics,
        failure: Failure,
        drain: Drain | None = None,
        to_come: Callable[[], int] = lambda: 0,
    ) -> None:
        """`to_come`: how many clicks a stage before is still to write into the source."""
        super().__init__()
        settings = config.settings
        self.drain = drain
        self.failure = failure
        self.shards: OpenShards[Shard] = OpenShards(
            settings.session_source,
            config.source.partitions,
            partial(_timed_take_over, config, metrics),
            config.reach,
            "open_sessions",
        )
        retries = Retries(self.shards, self.failure, self.add_future)
        commits = CommitLoop(self.shards, retries, self.failure, metrics, settings, drain, to_come)
        self.shards.on_opened = lambda shard: self.add_future(commits.run(shard))
        self.rebalance = Rebalance(self.shards, commits, retries)
        self.processing = Processing(self.shards, commits, settings.clicks, config.registry.lookup, drain)
        self._erasures: SideInputs[Shard] = SideInputs(
            config.arguments,
            (settings.topics.erasures,),
            self.shards.by_number,
            lambda shard, _: shard.partition.erasures.position,
            self._erase,
        )
        self._commits = commits
        self.source_watch = SourceWatch(config, metrics, self.failure)
        self._config = config

    @property
    def partitions(self) -> int:
        """Partitions of the clicks topic that are used, from the first on."""
        return self._config.source.partitions

    def committed_positions(self) -> dict[TP, int]:
        """Source positions that are durable."""
        return self.shards.committed_positions()

    async def _erase(self, shard: Shard, _: str, records: list[Any], __: int | None) -> None:
        take_in_erasures(shard.partition, records)
        while shard.partition.is_full and self.shards.has(shard):
            await self._commits.commit(shard)
            shard.partition.resume_closing()

    @Service.task
    async def _trim_regularly(self) -> None:
        await trim_regularly(self.shards, self._config)

    @Service.task
    async def _follow_drain(self) -> None:
        if self.drain is None:
            return
        try:
            await self.drain.follow(self.shards)
        except Exception as error:
            self.failure.report(error)

    @Service.task
    async def _watch_source(self) -> None:
        await self.source_watch.follow()

    @Service.task
    async def _follow_erasures(self) -> None:
        if self.drain is not None:  # it has read them at the start, as far as the clicks that it reads
            return
        try:
            await self._erasures.follow()
        except Exception as error:
            self.failure.report(error)


async def _timed_take_over(
    config: ShardConfig,
    metrics: Metrics,
    numbers: list[int],
    still_wanted: Callable[[int], bool],
    on_progress: Callable[[], None],
) -> TakenOver[Shard]:
    with metrics.recovery.time():
        return await take_over(config, numbers, still_wanted, on_progress)
