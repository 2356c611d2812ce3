"""Copies topics to a store: reads on from where the store says that it stands, for as long as it runs.

- The store holds the positions, so none can run ahead of what was written.
- One fetch is on its way to the store at a time: a store that is away or full holds up the reading.
- A partition is read from its first record, in a new pass, if the store knows nothing of it, if retention
  or compaction may have taken away records that were not read yet, or if documents are written otherwise.
  What was not met in the pass is swept at its end: its tombstone may be gone.
- So it is with a partition that is added while it runs. A drain ends where the topics did at its start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streamer.client.table import record_of
from streamer.client.view import Answers
from streamer.errors import StreamerError, UsageError
from streamer.kafka.client import running
from streamer.kafka.following import ASKS_EVERY_S, following_reader, have_been_added
from streamer.kafka.topics import find_topic
from streamer.registry.lookup import SchemaLookup
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.sink.metrics import SinkMetrics
from streamer.sink.source import Source
from streamer.sink.store import Batch, Change, Position, Store, StoreAwayError

_POLL_MS = 200
_FETCHED = 4000
"""Records on their way to the store, at most."""
_IN_A_BATCH = 250
"""Records of a script, which keeps the server from all else: some milliseconds."""
_TELL_EVERY_S = 5.0
"""How often a partition that is at its end says so in the store."""
_RETRY_S = 1.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0

log = structlog.get_logger(__name__)
T = TypeVar("T")


class SinkError(StreamerError):
    """The topics and what the store knows of them don't fit."""


class _StoppedError(Exception):
    """While the store was waited for."""


@dataclass
class _Partition:
    source: Source
    position: Position | None = None
    told_s: float = 0.0
    """When the store was last told that this partition is at its end, by the loop's clock."""


class Copier:
    """From its topics to its store."""

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[Source],
        store: Store,
        metrics: SinkMetrics,
        now: Callable[[], float],
        asks_every_s: float = ASKS_EVERY_S,
    ) -> None:
        """`now`: seconds since 1970; `asks_every_s`: how often brokers are asked for added partitions."""
        self._settings = settings
        self._asks_every_s = asks_every_s
        self._sources = sources
        self._store = store
        self._metrics = metrics
        self._now = now
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._counts: dict[str, int] = {}
        self._lookup = SchemaLookup(settings.registry)
        self._stop = asyncio.Event()
        self._away: tuple[str, float] | None = None
        self._heard_s = now()

    def stop(self) -> None:
        """Ends `run` once what is on its way has arrived, or at once while the store is away."""
        self._stop.set()

    async def run(self, share: frozenset[int] | None, drain: bool) -> bool:
        """Copy until it is stopped, or, to drain, up to the ends that the topics had at the start; returns
        whether all of that is in the store. `share`: partitions to copy; None: all. Raises StreamerError."""
        await self._find(share)
        wanted: dict[TopicPartition, int] | None = None
        while not self._stop.is_set():
            self._take_up(share)
            try:
                async with running(following_reader(self._settings.kafka, self._asks_every_s)) as consumer:
                    consumer.assign(list(self._partitions))
                    if drain and wanted is None:
                        wanted = await consumer.end_offsets(list(self._partitions))
                    if await self._follow(consumer, wanted):
                        await self._taken(self._store.flush)
                        return True
            except KafkaError as error:
                log.warning("reading_interrupted", error=type(error).__name__)
                await self._pause(_RETRY_S)
            except _StoppedError:
                return False  # what waits comes again
        await self._store.flush()
        return False

    def not_ready(self) -> list[str]:
        """What speaks against looking records up in the store; empty: nothing."""
        if self._away is not None:
            return [f"the store takes nothing for {self._now() - self._away[1]:.0f} s: {self._away[0]}"]
        reasons = [f"{name} are still being read" for name in self._unfinished()]
        silence = self._now() - self._heard_s
        if silence > self._settings.sink.max_age_s:
            reasons.append(f"no broker has answered for {silence:.0f} s")
        return reasons

    def _unfinished(self) -> list[str]:
        done = {
            source.name: [
                known.position is not None and known.position.until is None
                for known in self._partitions.values()
                if known.source is source
            ]
            for source in self._sources
        }
        return [name for name, partitions in done.items() if not partitions or not all(partitions)]

    async def _find(self, share: frozenset[int] | None) -> None:
        for source in self._sources:
            count = (await find_topic(self._settings.kafka, source.topic)).partitions
            if missing := [number for number in sorted(share or ()) if number >= count]:
                raise UsageError(
                    f"partitions {missing} of topic {source.topic}: it has those from 0 to {count - 1}"
                )
            self._counts[source.topic] = count

    def _take_up(self, share: frozenset[int] | None) -> None:
        for source in self._sources:
            for number in sorted(share or range(self._counts[source.topic])):
                self._partitions.setdefault(TopicPartition(source.topic, number), _Partition(source))

    async def _follow(self, consumer: Any, wanted: Mapping[TopicPartition, int] | None) -> bool:
        """Whether all that is wanted is in the store; False: it was stopped, or partitions were added."""
        await self._settle(consumer, self._partitions)
        answers = Answers(self._partitions, self._now())
        while not self._stop.is_set():
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_FETCHED)
            self._heard_s = answers.oldest(consumer, self._now())
            batches = await self._batches(consumer, fetched, answers)
            if batches:
                await self._apply(consumer, batches)
            await self._end_passes()
            if overdue := [tp for tp, known in self._partitions.items() if self._is_overdue(known)]:
                await self._settle(consumer, overdue)
            self._observe(consumer)
            if wanted is None:
                if have_been_added(consumer, self._counts):
                    return False
            elif self._has(wanted):
                return True
        return False

    def _has(self, wanted: Mapping[TopicPartition, int]) -> bool:
        return not self._unfinished() and all(
            known.position is not None and known.position.offset >= wanted[tp]
            for tp, known in self._partitions.items()
        )

    async def _settle(self, consumer: Any, tps: Iterable[TopicPartition]) -> None:
        """Go on from where the store stands, or from the first record."""
        stands: dict[TopicPartition, Position | None] = {}
        for tp in tps:
            position = partial(self._store.position, self._partitions[tp].source, tp.partition)
            stands[tp] = await self._taken(position)
        # Asked after the store: another sink may go on meanwhile, and never beyond what a broker has by then.
        asked = list(stands)
        begins, ends = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
        for tp, known in stands.items():
            source, first, end = self._partitions[tp].source, begins[tp], ends[tp]
            if known is not None and known.offset > end:
                raise _made_anew(tp, known.offset, end)
            reason = self._why_anew(known, first)
            if reason is not None:
                log.info("read_from_the_beginning", topic=tp.topic, partition=tp.partition, reason=reason)
                now_ms = int(self._now() * 1000)
                begin = partial(self._store.begin, source, tp.partition, known, first, end, now_ms)
                known = await self._taken(begin)
            assert known is not None
            self._partitions[tp].position = known
            consumer.seek(tp, known.offset)

    def _why_anew(self, known: Position | None, first: int) -> str | None:
        """Why a partition has to be read from its first record; None: it needn't."""
        if known is None:
            return "the store has no position"
        if known.layout != self._store.layout:
            return "sink.redis.format was changed"
        if known.offset < first and known.until is None:
            return "retention has overtaken the store"
        if self._is_behind(known):
            return "the store was behind for longer than sink.rebuild_after_s"
        return None

    def _is_behind(self, position: Position) -> bool:
        return self._now() - position.at_end_ms / 1000 > self._settings.sink.rebuild_after_s

    def _is_overdue(self, known: _Partition) -> bool:
        """Whether it has fallen behind while the sink ran, as with a store that was full for a day."""
        position = known.position
        return position is not None and position.until is None and self._is_behind(position)

    async def _batches(
        self, consumer: Any, fetched: Mapping[TopicPartition, Sequence[Any]], answers: Answers
    ) -> list[Batch]:
        """What there is to be told to the store: records, and ends that were reached."""
        batches: list[Batch] = []
        for tp, known in self._partitions.items():
            assert known.position is not None
            expected, after = known.position.offset, await consumer.position(tp)
            of_this: list[Batch] = []
            records = fetched.get(tp, ())
            if records and records[0].offset < expected:
                raise _made_anew(tp, expected, records[0].offset)
            for start in range(0, len(records), _IN_A_BATCH):
                part = records[start : start + _IN_A_BATCH]
                batch = await self._batch(known.source, tp, expected, part)
                expected = batch.next
                of_this.append(batch)
            stable = consumer.last_stable_offset(tp)
            if stable is not None and after >= stable and self._is_time_to_tell(known, after):
                of_this = of_this or [Batch(known.source, tp.partition, expected, expected)]
                of_this[-1].at_end_ms = int(answers.at(tp) * 1000)
            if of_this:
                of_this[-1].next = after
            batches += of_this
        return batches

    def _is_time_to_tell(self, known: _Partition, after: int) -> bool:
        assert known.position is not None
        if after == known.position.offset and self._clock() < known.told_s + _TELL_EVERY_S:
            return False
        known.told_s = self._clock()
        return True

    async def _batch(
        self, source: Source, tp: TopicPartition, expected: int, records: Sequence[Any]
    ) -> Batch:
        batch = Batch(source, tp.partition, expected, records[-1].offset + 1, read=len(records))
        for record in records:
            if record.value is None:
                self._add_tombstone(batch, record, self._counts[tp.topic])
                continue
            try:
                decoded = record_of(source.schema, await self._lookup.own(record.value))
            except codec.CodecError as error:
                batch.bad += 1
                log.warning(
                    "bad_record",
                    topic=tp.topic,
                    partition=tp.partition,
                    offset=record.offset,
                    reason=error.reason,
                )
            else:
                batch.changes.append(Change(record.offset, record.timestamp, decoded[source.key], decoded))
        return batch

    @staticmethod
    def _add_tombstone(batch: Batch, record: Any, partitions: int) -> None:
        if record.key is None:
            batch.bad += 1
        elif batch.source.view.may_erase(record.key, record.partition, partitions):
            key = record.key.decode(errors="replace")
            batch.changes.append(Change(record.offset, record.timestamp, key, None))
        else:
            batch.stale += 1

    async def _apply(self, consumer: Any, batches: Sequence[Batch]) -> None:
        now_ms = int(self._now() * 1000)
        with self._metrics.writing():
            positions = await self._taken(partial(self._store.apply, batches, now_ms))
        moved = []
        for place, offset in {batch.place: batch.next for batch in batches}.items():
            tp, position = TopicPartition(*place), positions.get(place)
            if position is not None and position.offset == offset:
                self._partitions[tp].position = position
            else:
                moved.append(tp)
                log.warning("position_moved", topic=tp.topic, partition=tp.partition)
        if moved:  # by another sink, or the store has lost what it was told last
            await self._settle(consumer, moved)

    async def _end_passes(self) -> None:
        """Sweep where every partition of a topic has come to the end of its pass."""
        for source in self._sources:
            mine = {tp.partition: known for tp, known in self._partitions.items() if known.source is source}
            passes = {
                number: known.position
                for number, known in mine.items()
                if known.position is not None and known.position.until is not None
            }
            if not passes or any(position.offset < (position.until or 0) for position in passes.values()):
                continue
            is_whole = len(passes) == self._counts[source.topic]
            by_number = {number: position.pass_ms for number, position in passes.items()}
            swept = await self._taken(partial(self._store.sweep, source, by_number, is_whole))
            for number, position in passes.items():
                finish = partial(self._store.finish, source, number, position)
                mine[number].position = await self._taken(finish)
            log.info("read_to_the_end", what=source.name, topic=source.topic, swept=swept)

    def _observe(self, consumer: Any) -> None:
        for tp, known in self._partitions.items():
            stable = consumer.last_stable_offset(tp)
            if known.position is not None:
                lag = 0 if stable is None else max(stable - known.position.offset, 0)
                self._metrics.stands(known.source.name, tp.partition, known.position, lag)

    async def _taken(self, act: Callable[[], Awaitable[T]]) -> T:
        """What the store answers, once it does. Raises _StoppedError."""
        pause = _FIRST_WAIT_S
        while True:
            try:
                answer = await act()
            except StoreAwayError as error:
                if self._away is None:
                    log.warning("store_takes_nothing", reason=str(error))
                    self._away = str(error), self._now()
                self._away = str(error), self._away[1]
            else:
                if self._away is not None:
                    log.info("store_takes_again", seconds=round(self._now() - self._away[1], 1))
                    self._away = None
                return answer
            await self._pause(pause)
            if self._stop.is_set():
                raise _StoppedError
            pause = min(2 * pause, _LONGEST_WAIT_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()


def _made_anew(tp: TopicPartition, known: int, found: int) -> SinkError:
    return SinkError(
        f"{tp.topic}, partition {tp.partition}: the store stands at offset {known}, and the partition at "
        f"{found}; the topic was made anew: copy it to another place (docs/sinks.md)"
    )
