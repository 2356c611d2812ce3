"""The session table: one shard per assigned partition, opened and closed with Faust's rebalances.

Batches of an older seek are dropped; they come again. A shard whose commit failed is dropped and taken
over anew, after the group has had time to say whether the partition is still this worker's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from streamer.errors import StreamerError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.permissions import refusal
from streamer.kafka.trimming import trim
from streamer.pipeline.dead_letter_limit import TooManyDeadLetters
from streamer.worker.draining import Drain
from streamer.worker.erasure_feed import ErasureFeed
from streamer.worker.kill_points import KillPoint
from streamer.worker.memory import give_back_memory
from streamer.worker.metrics import Metrics
from streamer.worker.shard import LOG_APPEND_TIME, Shard
from streamer.worker.silence import silent_until
from streamer.worker.takeover import ShardParts, take_over
from streamer.worker.transport import BatchConsumer, EmptyFetch, FetchedRecord, RecordBatch

MIN_INTERVAL_PER_SHARD_S = 0.008
"""A transaction costs a client about 1 ms: this keeps commits below an eighth of a core."""
COMMIT_AT = 8000
"""Records beyond the last commit at which the next one's time has come. More would save images, of sessions
that get another click, and take more memory and longer at a stretch."""
MAX_UNCOMMITTED = 12_000
"""Records that may be beyond it while a broker is slow."""
AT_A_STRETCH = 500
"""Records between which others in the event loop have their turn: some 5 ms with a million open sessions."""
RETRY_S = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Waits before a failed shard is taken over again; the group has to have answered meanwhile."""

log = structlog.get_logger(__name__)


class ArrivalError(StreamerError):
    """The source topic's timestamps are not what the settings say."""


class DeadLetterLimitError(StreamerError):
    """Going on would dead-letter what a bad deploy, here or at a producer, made unreadable."""


class SessionTable(Service):
    """Shards by partition. Faust calls `on_assigned` and `on_revoked`, the agent calls `process`."""

    abstract = False

    def __init__(self, parts: ShardParts, metrics: Metrics, *, drain: bool = False) -> None:
        super().__init__()
        self.shards: dict[int, Shard] = {}
        self.consumer: BatchConsumer | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception that this worker can't go on after."""
        self.joined = False
        """Whether the group has said which partitions are this worker's."""
        self.batches = 0
        """Batches finished so far."""
        self.records = 0
        """Records processed so far, those included that a failed commit has undone."""
        self._parts = parts
        self._topic = parts.settings.topics.clicks
        self._metrics = metrics
        self.drain = Drain(parts.arguments, self._topic) if drain else None
        self._taking_over = asyncio.Lock()

    # -- Faust's rebalances

    async def on_assigned(self) -> None:
        """Take over what is newly assigned, give up what is not assigned any more, go on with the rest."""
        async with self._taking_over:
            try:
                assigned = self.assigned()
                for number in [n for n in self.shards if n not in assigned]:
                    await self._drop(number)
                if self.drain is not None:
                    await self.drain.look_up(assigned)
                self.joined = True
                await self._open(assigned - self.shards.keys())
                for number, shard in self.shards.items():
                    self._seek(number, shard)
                if self.drain is not None:
                    self.drain.check(self.assigned())
            except KafkaError as error:
                self._fail_if_refused(error)
                log.warning("takeover_failed", error=type(error).__name__)
                self._retry(self.assigned() - self.shards.keys())
            except Exception as error:
                self.fail(error)

    async def on_revoked(self) -> None:
        """Make durable what was processed: whoever gets a partition goes on from there."""
        await asyncio.gather(*(self._commit(shard) for shard in list(self.shards.values())))
        if self.consumer is not None:
            await self.consumer.commit()

    # -- the agent's side

    async def process(self, batch: RecordBatch) -> None:
        """Take in a batch; waits for commits while too much is in memory."""
        shard = self.shards.get(batch.tp.partition)
        if shard is None or batch.seek_count != shard.seek_count:
            return
        self._check_arrival(batch)
        records = batch.records if self.drain is None else self.drain.within(batch)
        received = shard.partition.counters.received
        shard.saw_broker_time(batch.records[-1].timestamp, batch.received_at)
        index = 0
        while index < len(records) and self.shards.get(shard.number) is shard:
            index = await self._take_in(shard, records[: index + AT_A_STRETCH], index)
            behind = shard.partition.position - shard.committed_position
            if shard.partition.is_full or behind > MAX_UNCOMMITTED:
                await self._commit(shard)
                shard.partition.resume_closing()
            elif behind > COMMIT_AT:
                shard.due.set()
            await asyncio.sleep(0)
        self.batches += 1
        self.records += shard.partition.counters.received - received

    async def _take_in(self, shard: Shard, records: list[FetchedRecord], index: int) -> int:
        """`Partition.process`. A shard that it fails in is left as its last commit was."""
        try:
            return shard.partition.process(records, index)
        except TooManyDeadLetters as limit:
            raise DeadLetterLimitError(
                f"{limit}. What came before is committed, this record isn't read yet. 'streamer dlq ls' says "
                "what is wrong: mend the producer or the settings, or raise the limit to go on"
            ) from None
        except Exception:
            await self._drop(shard.number)
            raise

    def committed_positions(self) -> dict[TP, int]:
        """Source positions that are durable."""
        return {TP(self._topic, n): shard.committed_position for n, shard in self.shards.items()}

    async def shutdown(self) -> None:
        """Commit what was processed and let go of every shard. Drains nothing."""
        await self.on_revoked()
        for number in list(self.shards):
            await self._drop(number)

    # -- shards

    async def _open(self, numbers: Iterable[int]) -> None:
        wanted = sorted(numbers)
        if not wanted:
            return
        with self._metrics.recovery.time(), only_ours():
            shards = await take_over(self._parts, wanted, lambda number: number in self.assigned())
        for shard in shards:
            self.shards[shard.number] = shard
            self.add_future(self._commit_regularly(shard))
        await asyncio.to_thread(give_back_memory)
        open_sessions = sum(shard.partition.sessionizer.open_count for shard in shards)
        log.info("shards_open", partitions=wanted, open_sessions=open_sessions)

    def _seek(self, number: int, shard: Shard) -> None:
        assert self.consumer is not None
        self._parts.reach(KillPoint.BEFORE_SEEK)
        shard.seek_count = self.consumer.request_seek(TP(self._topic, number), shard.partition.position)

    async def _drop(self, number: int) -> None:
        shard = self.shards.pop(number)
        await shard.close()

    def assigned(self) -> set[int]:
        """Partitions that are this worker's, as the group has last said."""
        assert self.consumer is not None
        return {tp.partition for tp in self.consumer.assignment() if tp.topic == self._topic}

    async def _commit(self, shard: Shard) -> None:
        """Commit; a shard whose commit fails is dropped and taken over again."""
        try:
            committed = await shard.commit()
        except KafkaError as error:
            self._metrics.failed_commits.inc()
            self._fail_if_refused(error)
            if self.shards.get(shard.number) is shard:
                log.warning("commit_failed", partition=shard.number, error=type(error).__name__)
                await self._drop(shard.number)
                self._retry({shard.number})
        except Exception:
            if self.shards.get(shard.number) is shard:
                await self._drop(shard.number)
            raise
        else:
            if committed is not None:
                self._metrics.committed(committed)

    async def _reopen_if_out_of_range(self, shard: Shard) -> None:
        """A take-over decides what to do where the source no longer has the shard's position."""
        assert self.consumer is not None
        out_of_range = TP(self._topic, shard.number) in self.consumer.out_of_range
        if out_of_range and self.shards.get(shard.number) is shard:
            await self._drop(shard.number)
            self._retry({shard.number})

    def _retry(self, numbers: set[int]) -> None:
        if numbers and not self.should_stop:
            self.add_future(self._reopen(numbers))

    async def _reopen(self, numbers: set[int]) -> None:
        failed_at = time.monotonic()
        waits = iter(RETRY_S)
        while not self.should_stop and numbers & self.assigned() - self.shards.keys():
            await self.sleep(next(waits, RETRY_S[-1]))
            if not self._is_confirmed(failed_at):
                continue
            async with self._taking_over:
                missing = (numbers & self.assigned()) - self.shards.keys()
                try:
                    await self._open(missing)
                except KafkaError as error:
                    self._fail_if_refused(error)
                    log.warning("takeover_failed", partitions=sorted(missing), error=type(error).__name__)
                    failed_at = time.monotonic()
                    continue
                except Exception as error:
                    self.fail(error)
                for number in missing & self.shards.keys():
                    self._seek(number, self.shards[number])
                return

    def _is_confirmed(self, since: float) -> bool:
        """Whether the group has answered a heartbeat since: two owners would fence each other for ever."""
        return self.consumer is not None and self.consumer.membership.confirmed_at > since

    # -- what happens as time goes by

    async def _commit_regularly(self, shard: Shard) -> None:
        interval = self._parts.settings.commit.interval_ms / 1000
        shards = max(len(self.shards), 1)  # it may have been dropped before this began
        spread = shard.number % shards / shards
        await self.sleep(interval * spread)
        while not self.should_stop and self.shards.get(shard.number) is shard:
            try:
                self._tick(shard)
                await self._commit(shard)
                await self._reopen_if_out_of_range(shard)
                shard.partition.resume_closing()
                if self.drain is not None:
                    await self._drain_if_at_end(shard, self.drain)
            except Exception as error:
                self.fail(error)
            effective = max(interval, MIN_INTERVAL_PER_SHARD_S * len(self.shards))
            self._metrics.commit_interval.set(effective)
            shard.due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(effective):
                    await shard.due.wait()

    def _tick(self, shard: Shard) -> None:
        assert self.consumer is not None
        if self._parts.settings.clicks.arrival == "log_append_time" and self.drain is None:
            empty = self._empty_fetch(shard)
            margin_ms = self._parts.settings.watermark.idle_margin_ms
            now_ms = silent_until(empty, shard.partition.position, shard.broker_time, margin_ms)
            if now_ms is not None:
                shard.partition.tick(now_ms)

    @Service.task
    async def _trim_regularly(self) -> None:
        while not self.should_stop:
            await self.sleep(self._parts.settings.worker.trim_every_s)
            await self._trim()

    @Service.task
    async def _follow_erasures(self) -> None:
        if self.drain is not None:  # it has read them at the start, as far as the clicks that it reads
            return
        topic = self._parts.settings.topics.erasures
        try:
            await ErasureFeed(self._parts.arguments, topic, self.shards, self._commit).follow()
        except Exception as error:
            self.fail(error)

    async def _trim(self) -> None:
        offsets = {n: shard.state_log.trim_offset for n, shard in self.shards.items()}
        wanted = {number: offset for number, offset in offsets.items() if offset}
        if wanted:
            self._parts.reach(KillPoint.WHILE_TRIMMING)
            await trim(self._parts.arguments, self._parts.settings.changelog, wanted)

    async def _drain_if_at_end(self, shard: Shard, drain: Drain) -> None:
        if not drain.is_due(shard, self._empty_fetch(shard)):
            return
        while not shard.partition.drain():
            await self._commit(shard)
        await self._commit(shard)
        if self.shards.get(shard.number) is shard:
            drain.note_done(shard.number)
            drain.check(self.assigned())

    def _empty_fetch(self, shard: Shard) -> EmptyFetch | None:
        assert self.consumer is not None
        if not shard.seek_count:  # nothing has been fetched for it yet
            return None
        return self.consumer.empty_fetch(TP(self._topic, shard.number))

    # -- what must not be

    def _check_arrival(self, batch: RecordBatch) -> None:
        expected = self._parts.settings.clicks.arrival
        if expected == "log_append_time" and batch.records[0].timestamp_type != LOG_APPEND_TIME:
            raise ArrivalError(
                f"topic {self._topic} has message.timestamp.type=CreateTime, expected LogAppendTime: change "
                "the topic, or set clicks.arrival=create_time (no closing by silence then)"
            )

    def _fail_if_refused(self, error: KafkaError) -> None:
        refused = refusal(error, f"work for {self._parts.settings.app.id}")
        if refused is not None:
            self.fail(refused)

    def fail(self, error: BaseException) -> None:
        """Say that the worker has to end with this error."""
        if not self.failed.done():
            self.failed.set_exception(error)
