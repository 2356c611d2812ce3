"""The table of the stage that writes clicks by visitor: its partitions are read in step.

Each batch waits with its partition, which is fetched no further meanwhile, until the partitions beside it, of
this worker and of others, have come as far. How far others have come is read from the stage's changelog.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.native.record_fields import count_until, latest_of
from streamer.sources.fit import FirstRecords, log_misfit
from streamer.worker.failure import Failure
from streamer.worker.log_reader import LogReader
from streamer.worker.metrics import Metrics
from streamer.worker.stages.alignment import Alignment
from streamer.worker.stages.stage_marker import decode_marker
from streamer.worker.stages.stage_shard import StageConfig, StageShard
from streamer.worker.stages.stage_table import StageTable
from streamer.worker.transport import RecordBatch

SHARE_OF_BOUND = 0.25
"""Of the out-of-orderness that sessions allow: what reading several partitions may add to it."""
LEAST_SLACK_MS = 1000
WAKE_S = 0.01
"""How often it is looked whether a record still has to wait."""
LOOK_EVERY_S, LOOK_SOON_S = 1.0, 0.05
"""How often the other workers' progress is read, and so while a record waits."""
PEEK_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


class _Intake:
    """What was fetched of a partition and isn't processed, and what is processed and not committed."""

    def __init__(self, shard: StageShard) -> None:
        self.shard = shard
        self.batches: deque[list[Any]] = deque()
        self.latest_ms = 0
        """The running maximum of the times of processed records."""
        self._uncommitted: deque[tuple[int, int]] = deque()
        """Of portions: the offset behind, and the time of the first record."""

    def next_ms(self) -> int | None:
        """Time of the first record that isn't committed, as far as records are known."""
        while self._uncommitted and self._uncommitted[0][0] <= self.shard.committed_position:
            self._uncommitted.popleft()
        if self._uncommitted:
            return self._uncommitted[0][1]
        return self.head_ms() if self.batches else None

    def head_ms(self) -> int:
        """Time of the first record that waits."""
        first: int = self.batches[0][0].timestamp
        return max(self.latest_ms, first)

    def portion(self, limit_ms: float, most: int) -> list[Any]:
        """Take out the records that wait up to a time, of one batch and at most so many."""
        if not self.batches or self.latest_ms > limit_ms:
            return []
        batch = self.batches.popleft()
        taken = batch[: count_until(batch[:most], limit_ms)]
        if len(taken) < len(batch):
            self.batches.appendleft(batch[len(taken) :])
        return taken

    def note(self, records: list[Any]) -> None:
        """These are processed."""
        self._uncommitted.append((self.shard.position, max(self.latest_ms, records[0].timestamp)))
        self.latest_ms = max(self.latest_ms, latest_of(records))


class RepartitionTable(StageTable):
    """As StageTable, in step."""

    def __init__(
        self, config: StageConfig, metrics: Metrics, failure: Failure, now_ms: Callable[[], float]
    ) -> None:
        """`now_ms`: this machine's clock, ms UTC: no record is taken to be later."""
        super().__init__(config, metrics, failure)
        bound = config.settings.watermark.out_of_orderness_ms
        self._alignment = Alignment(max(LEAST_SLACK_MS, round(SHARE_OF_BOUND * bound)))
        self._intakes: dict[int, _Intake] = {}
        self._elsewhere: dict[int, int | None] = {}
        """Time of the next record of partitions that other workers have."""
        self._now_ms = now_ms
        registered = config.registry.lookup.registered
        self._first = FirstRecords(config.settings.clicks, registered, log_misfit)
        self._woken = asyncio.Event()
        self._waits = False
        """Whether a record waits for other partitions."""

    async def process(self, batch: RecordBatch) -> None:
        """Have a batch wait for its turn."""
        shard = self.shards.by_number.get(batch.tp.partition)
        if shard is None or batch.seek_count != shard.seek_count:
            return
        self._first.see(batch.records)
        intake = self._intakes.get(shard.number)
        if intake is None or intake.shard is not shard:
            intake = self._intakes[shard.number] = _Intake(shard)
        intake.batches.append(batch.records)
        self._hold(batch.tp)
        self._woken.set()

    def _hold(self, tp: TP) -> None:
        assert self.shards.consumer is not None
        self.shards.consumer.held.add(tp)

    @Service.task
    async def _work(self) -> None:
        try:
            while not self.should_stop:
                self._woken.clear()
                if not await self._turn():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(WAKE_S if self._waits else None):
                            await self._woken.wait()
        except Exception as error:
            self.failure.report(error)

    async def _turn(self) -> bool:
        """Process a portion of each partition whose turn it is; whether there was any."""
        now_s, now_ms = time.monotonic(), self._now_ms()
        self._alignment.see(self._next_times(), now_s)
        done, waiting = False, []
        for number, intake in list(self._intakes.items()):
            if not self.shards.has(intake.shard):
                self._forget(number)
                continue
            limit = self._alignment.limit(number, now_s)
            records = intake.portion(float("inf") if limit >= now_ms else limit, self.config.chunk_records)
            if records:
                await self.take_in_order(intake.shard, records)
                intake.note(records)
                self.batches += 1
                done = True
            elif intake.batches:
                waiting.append(intake.head_ms())
            if not intake.batches:
                self._release(number)
        self._waits = bool(waiting) and not done
        if self._waits:
            self._have_committed(self._alignment.behind(min(waiting)))
        return done

    def _next_times(self) -> dict[int, int | None]:
        times = {number: self._next_ms(number) for number in self.shards.by_number}
        return {number: self._elsewhere.get(number, 0) for number in range(self.partitions)} | times

    def _next_ms(self, number: int) -> int | None:
        """Of a partition of this worker; what is there and wasn't fetched is taken to come next."""
        shard, intake = self.shards.by_number[number], self._intakes.get(number)
        known = intake.next_ms() if intake is not None and intake.shard is shard else None
        if known is not None:
            return known
        assert self.shards.consumer is not None
        if self.shards.consumer.is_read(TP(self.config.source, number), shard.position):
            return None
        return intake.latest_ms if intake is not None else 0

    def _have_committed(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            shard = self.shards.by_number.get(number)
            if shard is not None and shard.stage.has_pending:
                shard.due.set()

    def _forget(self, number: int) -> None:
        del self._intakes[number]
        self._release(number)

    def _release(self, number: int) -> None:
        assert self.shards.consumer is not None
        self.shards.consumer.held.discard(TP(self.config.source, number))

    @Service.task
    async def _follow_others(self) -> None:
        while not self.should_stop:
            others = self._others()
            if not others:
                await self.sleep(LOOK_EVERY_S)
                continue
            try:
                with only_ours():
                    await self._follow(others)
            except KafkaError as error:
                log.debug("others_unread", topic=self.config.changelog, error=type(error).__name__)
                await self.sleep(LOOK_EVERY_S)
            except Exception as error:
                self.failure.report(error)
                return

    def _others(self) -> frozenset[int]:
        """Partitions that this worker has no shard of; none before it has any."""
        mine = self.shards.by_number.keys()
        return frozenset(range(self.partitions)) - mine if mine else frozenset()

    async def _follow(self, others: frozenset[int]) -> None:
        """Read how far others have come, until other partitions are theirs."""
        config = self.config
        async with LogReader(config.arguments, max_partition_fetch_bytes=PEEK_BYTES) as reader:
            reader.assign({config.changelog: others, config.source: others})
            while others == self._others() and not self.should_stop:
                self._elsewhere = await self._look(reader, others)
                self._woken.set()
                await self.sleep(LOOK_SOON_S if self._waits else LOOK_EVERY_S)

    async def _look(self, reader: LogReader, others: frozenset[int]) -> dict[int, int | None]:
        config = self.config
        markers = await reader.last_records(config.changelog, others)
        bounds = await reader.bounds(config.source, others)
        positions = {}
        for number, (first, end) in bounds.items():
            last = markers[number]
            position = first if last is None else decode_marker(last.value).positions[config.source]
            if position < end:
                positions[number] = max(position, first)
        following = await reader.records_at(config.source, positions)
        return {number: following[number].timestamp if number in following else None for number in others}
