"""Runs the lanes of a plan: portions in, sessions scored and written, states saved along the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from schemas.click import Session
from streamer.core.rules import SessionRules
from streamer.pipeline.counters import ClickCounters
from streamer.replay.digests import OutputDigests
from streamer.replay.journal import STATE_VERSION, LaneState, Sealed
from streamer.replay.partition_replay import PartitionReplay
from streamer.replay.plan import Plan
from streamer.replay.scoring import Bench
from streamer.replay.sinks import Sink
from streamer.replay.source import Portion, Source
from streamer.replay.tally import Tally

SAVE_EVERY = 100_000
"""Records of a partition between two states on disk, ..."""
SAVE_EVERY_S = 10.0
"""... or seconds, on a machine that has other things to do."""
SCORE_AT_ONCE = 2048
"""Sessions that are scored together: full batches for every length bucket."""

OnProgress = Callable[[int], None]
"""Called with the number of records done since the last call; what a state has already is not among them."""


class Keeper(Protocol):
    """Where states are kept."""

    async def save(self, number: int, state: LaneState) -> None:
        """Keep it in the last one's place. It holds what changes with the partition's next record."""


@dataclass
class LaneResult:
    """What one partition came to."""

    tally: Tally
    counters: ClickCounters
    digests: list[OutputDigests]
    """By bundle."""
    sealed: Sealed


@dataclass
class _Run:
    """A partition under way."""

    replay: PartitionReplay
    digests: list[OutputDigests]
    waiting: list[Session] = field(default_factory=list)
    since_saved: int = 0
    saved_at: float = 0.0
    """Monotonic seconds."""


class Engine:
    """Runs some of a plan's lanes in this process. `save_every` is for tests that kill it."""

    def __init__(
        self,
        plan: Plan,
        rules: SessionRules,
        bench: Bench,
        source: Source,
        sink: Sink,
        keeper: Keeper | None,
        *,
        save_every: int = SAVE_EVERY,
        on_progress: OnProgress = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keeper`: None if nobody will go on with this. `now`, in monotonic seconds, decides on when a state
        is saved and on nothing else."""
        self._plan = plan
        self._rules = rules
        self._bench = bench
        self._source = source
        self._sink = sink
        self._keeper = keeper
        self._save_every = save_every
        self._on_progress = on_progress
        self._now = now

    async def run(self, numbers: Iterable[int], states: Mapping[int, LaneState]) -> dict[int, LaneResult]:
        """Do these lanes to their end, each from its state on if it has one."""
        results: dict[int, LaneResult] = {}
        runs: dict[int, _Run] = {}
        for number in numbers:
            state = states.get(number)
            run = self._begin(number, state)
            if state and state.done:
                results[number] = self._result(run, state.sealed)
            else:
                runs[number] = run
        if not runs:
            return results
        positions = {number: run.replay.position for number, run in runs.items()}
        async with aclosing(self._source.portions(positions)) as portions:
            async for portion in portions:
                run = runs[portion.number]
                await self._take(run, portion)
                await asyncio.sleep(0)  # a source that has read ahead doesn't wait for anything
                if portion.is_last:
                    results[portion.number] = self._result(run, await self._save(run, done=True))
        return results

    def _begin(self, number: int, state: LaneState | None) -> _Run:
        lane = next(lane for lane in self._plan.lanes if lane.number == number)
        replay = PartitionReplay(
            self._plan.topic,
            number,
            self._plan.stretch,
            self._rules,
            self._source.decode,
            start=lane.start,
            unread_until_ms=lane.unread_until_ms,
            idle_closing=self._plan.idle_closing,
            early_every_ms=self._plan.early_every_ms,
            drains_ms=lane.drains_ms,
            erased=self._plan.erased,
            snapshot=state.snapshot if state else None,
        )
        stored = state.digests if state else [None] * len(self._bench.bundles)
        return _Run(replay, [OutputDigests(each) for each in stored], saved_at=self._now())

    async def _take(self, run: _Run, portion: Portion) -> None:
        replay = run.replay
        before = replay.counters.received
        run.waiting += replay.process(portion.records)
        if portion.silent_until_ms is not None:
            run.waiting += replay.silence(self._within(portion.silent_until_ms))
        if portion.is_last:
            to_ms = self._plan.to_ms
            run.waiting += replay.drain() if to_ms is None else replay.silence(to_ms)
        if portion.silent_until_ms is not None and run.waiting:  # at a given pace nothing waits
            await self._score(run, len(run.waiting))
            await self._sink.seal(replay.number)
        while len(run.waiting) >= SCORE_AT_ONCE:
            await self._score(run, SCORE_AT_ONCE)
        done = replay.counters.received - before
        run.since_saved += done
        self._on_progress(done)
        if self._keeper is None:
            return
        if run.since_saved >= self._save_every or self._now() - run.saved_at >= SAVE_EVERY_S:
            await self._save(run, done=False)

    async def _score(self, run: _Run, count: int) -> None:
        scored = []
        for each in self._bench.score(run.waiting[:count]):
            if any(each.results):
                scored.append(each)
            else:
                run.replay.unscored(each.session)
            for reason in each.errors:
                run.replay.tally.count_dead("score", reason)
        for bundle, digests in enumerate(run.digests):
            results = [each.results[bundle] for each in scored]
            digests.add([result.records for result in results if result is not None])
        del run.waiting[:count]
        await self._sink.write(run.replay.number, scored)

    async def _save(self, run: _Run, *, done: bool) -> Sealed:
        while run.waiting:
            await self._score(run, SCORE_AT_ONCE)
        number = run.replay.number
        sealed = await self._sink.seal(number)
        if self._keeper is not None:
            digests = [each.as_dict() for each in run.digests]
            state = LaneState(STATE_VERSION, run.replay.snapshot(), done, sealed, digests)
            await self._keeper.save(number, state)
        run.since_saved, run.saved_at = 0, self._now()
        return sealed

    def _within(self, at_ms: int) -> int:
        """Silence beyond the stretch is nobody's business."""
        return at_ms if self._plan.to_ms is None else min(at_ms, self._plan.to_ms)

    def _result(self, run: _Run, sealed: Sealed) -> LaneResult:
        return LaneResult(run.replay.tally, run.replay.counters, run.digests, sealed)
