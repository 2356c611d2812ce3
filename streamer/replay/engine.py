"""Runs partitions of a plan in this process: portions in, sessions scored and written, checkpoints saved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from streamer.identity.rules import IdentityRules
from streamer.pipeline.counters import ClickCounters
from streamer.replay.digests import OutputDigests
from streamer.replay.file_source import FileSource
from streamer.replay.journal import STATE_VERSION, CheckpointStore, DurableOutput, PartitionCheckpoint
from streamer.replay.options import FROM_TOPIC, STDOUT, ReplayOptions
from streamer.replay.partition_replay import PartitionReplay, SelectionCounters
from streamer.replay.plan import PartitionPlan, ReplayPlan
from streamer.replay.scoring import BundleScorers
from streamer.replay.session_spool import SpoolingSink
from streamer.replay.sinks import NoSink, RowsSink, SessionSink, StdoutSink, TopicSink
from streamer.replay.sources import PacedSource, Portion, RecordSource, replayed
from streamer.replay.topic_source import TopicSource
from streamer.rules_from_settings import identity_rules, session_rules
from streamer.schemas.click import Session
from streamer.settings import Settings
from streamer.sources.fit import FirstRecords, log_misfit

SAVE_EVERY = 100_000
"""Records of a partition between two checkpoints, ..."""
SAVE_EVERY_S = 10.0
"""... or seconds, on a machine that has other things to do."""
SCORE_AT_ONCE = 2048
"""Sessions that are scored together: full batches for every length bucket."""

OnDone = Callable[[int], None]
"""Called with the number of records done since the last call; those of a checkpoint are not among them."""


@dataclass(frozen=True)
class ReplayTask:
    """A replay that was begun: what was asked for, and what was fixed.

    `save_every` is for tests that kill it.
    """

    settings: Settings
    options: ReplayOptions
    plan: ReplayPlan
    scorers: BundleScorers
    save_every: int = SAVE_EVERY

    @property
    def identity_rules(self) -> IdentityRules:
        return identity_rules(self.settings)


@dataclass(frozen=True)
class RowFolder:
    """Where files of rows and of sessions go. `mark` is in their names, so that nobody else can have written
    them."""

    path: Path
    mark: str = ""


@dataclass
class PartitionResult:
    """What one partition came to."""

    selection: SelectionCounters
    counters: ClickCounters
    digests: list[OutputDigests]
    """By bundle."""
    output: DurableOutput


async def run_partitions(
    task: ReplayTask,
    checkpoints: Mapping[int, PartitionCheckpoint | None],
    store: CheckpointStore | None,
    rows: RowFolder | None,
    on_done: OnDone,
) -> dict[int, PartitionResult]:
    """Run the partitions that `checkpoints` names to their end, each from its checkpoint on if it has one.

    `store`: None if nobody will go on with this.
    """
    partitions = {number: task.plan.partition(number) for number in checkpoints}
    begun = {number: found for number, found in checkpoints.items() if found is not None}
    durable = {number: begun[number].output if number in begun else DurableOutput() for number in partitions}
    sink = _sink(task, partitions, durable, rows)
    if task.plan.identity and rows is not None:
        sink = SpoolingSink(sink, rows.path, durable, rows.mark)
    source = _source(task.settings, task.options, partitions)
    try:
        return await Engine(task, source, sink, store, on_done).run(partitions, begun)
    finally:
        await sink.close()


def _sink(
    task: ReplayTask,
    partitions: Mapping[int, PartitionPlan],
    durable: Mapping[int, DurableOutput],
    rows: RowFolder | None,
) -> SessionSink:
    options = task.options
    if options.out_topic is not None:
        return TopicSink(task.settings, options.out_topic, partitions, durable)
    if options.out == STDOUT:
        return StdoutSink()
    if options.out is None or rows is None:
        return NoSink()
    return RowsSink(rows.path, task.scorers, durable, rows.mark)


def _source(settings: Settings, options: ReplayOptions, partitions: dict[int, PartitionPlan]) -> RecordSource:
    source: RecordSource
    if options.source == FROM_TOPIC:
        source = TopicSource(settings, partitions)
    else:
        source = FileSource(Path(options.source), settings.clicks, settings.registry)
    if not options.speed:
        return source
    return PacedSource(source, options.speed, options.time_range.from_ms, time.monotonic, asyncio.sleep)


@dataclass
class _RunningPartition:
    replay: PartitionReplay
    digests: list[OutputDigests]
    waiting: list[Session] = field(default_factory=list)
    since_saved: int = 0
    saved_at: float = 0.0
    """Monotonic seconds."""

    def result(self, output: DurableOutput) -> PartitionResult:
        return PartitionResult(self.replay.selection, self.replay.counters, self.digests, output)


class Engine:
    def __init__(
        self,
        task: ReplayTask,
        source: RecordSource,
        sink: SessionSink,
        store: CheckpointStore | None,
        on_done: OnDone,
    ) -> None:
        self._plan = task.plan
        self._config = task.plan.config(session_rules(task.settings))
        self._scorers = task.scorers
        self._save_every = task.save_every
        self._source = source
        self._sink = sink
        self._store = store
        self._on_done = on_done
        self._first = FirstRecords(task.settings.clicks, source.lookup.registered, log_misfit)

    async def run(
        self, partitions: Mapping[int, PartitionPlan], checkpoints: Mapping[int, PartitionCheckpoint]
    ) -> dict[int, PartitionResult]:
        """Run these partitions to their end, each from its checkpoint on if it has one."""
        results: dict[int, PartitionResult] = {}
        running: dict[int, _RunningPartition] = {}
        for number, partition in partitions.items():
            checkpoint = checkpoints.get(number)
            run = self._begin(partition, checkpoint)
            if checkpoint and checkpoint.done:
                results[number] = run.result(checkpoint.output)
            else:
                running[number] = run
        if not running:
            return results
        positions = {number: run.replay.position for number, run in running.items()}
        async with aclosing(self._source.portions(positions)) as portions:
            async for portion in portions:
                run = running[portion.number]
                await self._take(run, portion)
                await asyncio.sleep(0)  # a source that has read ahead doesn't wait for anything
                if portion.is_last:
                    results[portion.number] = run.result(await self._save(run, done=True))
        return results

    def _begin(self, partition: PartitionPlan, checkpoint: PartitionCheckpoint | None) -> _RunningPartition:
        snapshot = checkpoint.snapshot if checkpoint else None
        source = self._source
        replay = PartitionReplay(
            self._config, partition, source.decode, snapshot=snapshot, whole=source.whole
        )
        stored = checkpoint.digests if checkpoint else [None] * len(self._scorers.bundles)
        return _RunningPartition(replay, [OutputDigests(each) for each in stored], saved_at=time.monotonic())

    async def _take(self, run: _RunningPartition, portion: Portion) -> None:
        replay = run.replay
        before = replay.counters.received
        self._first.see(portion.records)
        await replayed(self._source, replay, portion.records, run.waiting)
        if portion.idle_until_ms is not None:
            run.waiting += replay.idle(self._within(portion.idle_until_ms))
        if portion.is_last:
            to_ms = self._plan.to_ms
            run.waiting += replay.drain() if to_ms is None else replay.idle(to_ms)
        if portion.idle_until_ms is not None and run.waiting:  # at a given pace nothing waits
            await self._score(run, len(run.waiting))
            await self._sink.seal(replay.number)
        while len(run.waiting) >= SCORE_AT_ONCE:
            await self._score(run, SCORE_AT_ONCE)
        done = replay.counters.received - before
        run.since_saved += done
        self._on_done(done)
        if self._store is None:
            return
        if run.since_saved >= self._save_every or time.monotonic() - run.saved_at >= SAVE_EVERY_S:
            await self._save(run, done=False)

    async def _score(self, run: _RunningPartition, count: int) -> None:
        scored = []
        for each in self._scorers.score(run.waiting[:count]):
            if any(each.outputs):
                scored.append(each)
            else:
                run.replay.unscored(each.session)
            for reason in each.errors:
                run.replay.selection.count_dead("score", reason)
        for bundle, digests in enumerate(run.digests):
            outputs = [each.outputs[bundle] for each in scored]
            digests.add([output.records for output in outputs if output is not None])
        del run.waiting[:count]
        await self._sink.write(run.replay.number, scored)

    async def _save(self, run: _RunningPartition, *, done: bool) -> DurableOutput:
        while run.waiting:
            await self._score(run, SCORE_AT_ONCE)
        number = run.replay.number
        output = await self._sink.seal(number)
        if self._store is not None:
            digests = [each.as_dict() for each in run.digests]
            checkpoint = PartitionCheckpoint(STATE_VERSION, run.replay.snapshot(), done, output, digests)
            await self._store.save(number, checkpoint)
        run.since_saved, run.saved_at = 0, time.monotonic()
        return output

    def _within(self, at_ms: int) -> int:
        """Idleness after the end of the time range doesn't matter."""
        return at_ms if self._plan.to_ms is None else min(at_ms, self._plan.to_ms)
