"""Processing of fetched batches: each goes to its partition's shard, in chunks between which others run.

A batch that was fetched before the shard's last seek is dropped; its records come again.
"""

from __future__ import annotations

import asyncio

from streamer.pipeline.dead_letter_limit import TooManyDeadLetters
from streamer.pipeline.partition import LOG_APPEND_TIME
from streamer.pipeline.registered import UnknownSchema
from streamer.registry.lookup import SchemaLookup
from streamer.settings import ClickSettings
from streamer.sources.fit import FirstRecords, log_misfit
from streamer.worker.commit_loop import COMMIT_AT, CommitLoop
from streamer.worker.draining import Drain
from streamer.worker.failure import too_many
from streamer.worker.open_shards import OpenShards
from streamer.worker.shard import Shard
from streamer.worker.transport import FetchedRecord, RecordBatch

MAX_UNCOMMITTED = 16_000
"""Records that may be beyond it while a broker is slow."""
CHUNK_RECORDS = 500
"""Records between which others in the event loop have their turn: some 5 ms with a million open sessions."""


class Processing:
    """Takes batches in, and holds them back while too much is uncommitted."""

    def __init__(
        self,
        shards: OpenShards[Shard],
        commits: CommitLoop,
        clicks: ClickSettings,
        lookup: SchemaLookup,
        drain: Drain | None,
    ) -> None:
        self.batches = 0
        """Batches finished so far."""
        self.records = 0
        """Records processed so far, those included that a failed commit has undone."""
        self._shards = shards
        self._commits = commits
        self._lookup = lookup
        self._drain = drain
        self._first = FirstRecords(clicks, lookup.registered, log_misfit)

    async def process(self, batch: RecordBatch) -> None:
        """Take in a batch; waits for commits while too much is in memory."""
        shard = self._shards.by_number.get(batch.tp.partition)
        if shard is None or batch.seek_count != shard.seek_count:
            return
        self._first.see(batch.records)
        records = batch.records if self._drain is None else self._drain.within(batch)
        received = shard.partition.counters.received
        last = batch.records[-1]
        if last.timestamp_type == LOG_APPEND_TIME:
            shard.saw_broker_time(last.timestamp, batch.received_at)
        index = 0
        while index < len(records) and self._shards.has(shard):
            index += await self._process_chunk(shard, records[index : index + CHUNK_RECORDS])
            behind = shard.partition.position - shard.committed_position
            if shard.partition.is_full or behind > MAX_UNCOMMITTED:
                await self._commits.commit(shard)
                shard.partition.resume_closing()
            elif behind > COMMIT_AT or self._commits.hurries(shard):
                shard.due.set()
            await asyncio.sleep(0)
        self.batches += 1
        self.records += shard.partition.counters.received - received

    async def _process_chunk(self, shard: Shard, records: list[FetchedRecord]) -> int:
        """`Partition.process`, which ends early where a schema has to be fetched. A shard that it fails in is
        left as its last commit was."""
        try:
            return shard.partition.process(records)
        except UnknownSchema as unknown:
            await self._lookup.learn(unknown.prefix, lambda: self._shards.has(shard))
            return 0
        except TooManyDeadLetters as limit:
            raise too_many(limit) from None
        except Exception:
            await self._shards.drop(shard.number)
            raise
