"""The commits of every open shard: at an interval, when enough is uncommitted, and when a customer logs in.

Before each, idleness closes what it may; after each, a drain that has read to the end closes the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from streamer.settings import Settings
from streamer.worker.commits import Commits
from streamer.worker.draining import Drain
from streamer.worker.failure import Failure
from streamer.worker.idleness import advance_idle_clock
from streamer.worker.metrics import Metrics
from streamer.worker.open_shards import OpenShards
from streamer.worker.shard import Shard
from streamer.worker.takeover_retries import Retries

COMMIT_AT = 12_000
"""Records beyond the last commit at which the next one's time has come. More would save snapshots, of
sessions that get another click, and take more memory and longer at a stretch."""


class CommitLoop(Commits[Shard]):
    """Commits the shards of the session table."""

    def __init__(
        self,
        shards: OpenShards[Shard],
        retries: Retries,
        failure: Failure,
        metrics: Metrics,
        settings: Settings,
        drain: Drain | None,
        to_come: Callable[[], int],
    ) -> None:
        super().__init__(shards, retries, failure, metrics.failed_commits, metrics.committed, to_come)
        self._metrics = metrics
        self._settings = settings
        self._drain = drain

    async def run(self, shard: Shard) -> None:
        """Until the shard is dropped. Shards take turns within an interval."""
        interval = self._settings.commit.interval_ms / 1000
        shards = max(len(self._shards.by_number), 1)  # it may have been dropped before this began
        await self.pause(shard, time.monotonic(), interval * (shard.number % shards) / shards)
        while self._shards.has(shard):
            began = time.monotonic()
            try:
                await self._turn(shard)
            except Exception as error:
                self._failure.report(error)
            effective = self.at_most_every(interval)
            self._metrics.commit_interval.set(effective)
            await self.pause(shard, began, effective, full_at=COMMIT_AT)

    async def _turn(self, shard: Shard) -> None:
        empty = self._shards.empty_fetch(shard)
        if self._settings.clicks.arrival == "log_append_time" and self._drain is None:
            advance_idle_clock(shard, empty, self._settings.watermark.idle_margin_ms)
        await self.commit(shard)
        await self._retries.retry_if_out_of_range(shard)
        shard.partition.resume_closing()
        if self._drain is not None and self._drain.is_due(shard, self._shards.empty_fetch(shard)):
            await self._finish(shard, self._drain)

    async def _finish(self, shard: Shard, drain: Drain) -> None:
        """Close everything that is open, and publish it."""
        while not shard.partition.drain():
            await self.commit(shard)
        shard.drained = drain.end_of(shard)
        await self.commit(shard, force=True)
        if self._shards.has(shard):
            drain.note_done(shard.number)
