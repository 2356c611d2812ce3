"""One partition of a replay: records, idleness and the end of input in, sessions of the time range out. Pure.

It drives the worker's own `Partition`. A result doesn't depend on how records are split into batches, on
when idleness is reported, or on where it is stopped and goes on from a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import msgspec

from streamer.core.session import OpenSession
from streamer.core.sessionizer import Sessionizer
from streamer.core.watermark import PartitionClock
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.dead_letters import STAGE_HEADER
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import Decode, Partition, PartitionPolicy, PartitionState, Record, Whole
from streamer.replay.plan import PartitionPlan, ReplayConfig
from streamer.replay.time_range import UndeterminedSessions
from streamer.schemas.click import Session


class SelectionCounters(msgspec.Struct):
    """Which of the closed sessions were selected, and why the others weren't; of one partition or several."""

    sessions: int = 0
    """Selected: closed within the time range, determined, scored."""
    clicks: int = 0
    """In these."""
    outside_sessions: int = 0
    """Closed before or after the time range: read because others straddle its bounds."""
    outside_clicks: int = 0
    undetermined_sessions: int = 0
    """They may have begun before the first record that was read."""
    undetermined_clicks: int = 0
    unscored_sessions: int = 0
    unscored_clicks: int = 0
    dead: dict[str, int] = {}
    """`stage: reason` -> records, and sessions at stage `score`."""
    closed_by: dict[str, int] = {}
    """Reason -> selected sessions."""

    def add(self, other: SelectionCounters) -> None:
        """Take in what the other has counted."""
        for name in self.__struct_fields__:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, count in others.items():
                    mine[key] = mine.get(key, 0) + count
            else:
                setattr(self, name, mine + others)

    def count_dead(self, stage: str, reason: str) -> None:
        name = f"{stage}: {reason}"
        self.dead[name] = self.dead.get(name, 0) + 1


class ReplaySnapshot(msgspec.Struct):
    """All that a partition's replay has to know to go on."""

    position: int
    clock: PartitionClock
    sessions: list[OpenSession]
    counters: ClickCounters
    selection: SelectionCounters
    reaches: dict[str, int]


class PartitionReplay:
    """Hand it records in order; take what it yields before the next call."""

    def __init__(
        self,
        config: ReplayConfig,
        plan: PartitionPlan,
        decode: Decode,
        *,
        snapshot: ReplaySnapshot | None = None,
        whole: Whole | None = None,
        on_undetermined: Callable[[Session], None] = lambda _: None,
    ) -> None:
        """`whole`: as in PartitionPolicy. `on_undetermined` is called with undetermined sessions,
        within the time range or not."""
        self._time_range = config.time_range
        self._on_undetermined = on_undetermined
        self.selection = snapshot.selection if snapshot else SelectionCounters()
        self._undetermined = UndeterminedSessions(
            plan.unread_until_ms, config.rules, snapshot.reaches if snapshot else None
        )
        self._partition = Partition(
            config.topic,
            plan.number,
            Sessionizer(
                config.rules,
                idle_closing=config.idle_closing,
                early_every_ms=config.early_every_ms,
                at_login=config.at_login,
                clock=snapshot.clock if snapshot else None,
                sessions=snapshot.sessions if snapshot else (),
            ),
            decode,
            PartitionState(
                snapshot.position if snapshot else plan.start,
                snapshot.counters if snapshot else None,
                _noted(config.erased),
            ),
            PartitionPolicy(needs_arrival=config.idle_closing, whole=whole),
        )
        self._drains_ms = [at for at in plan.drains_ms if at >= self.clock_ms]

    @property
    def number(self) -> int:
        return self._partition.number

    @property
    def position(self) -> int:
        """Offset of the next record."""
        return self._partition.position

    @property
    def clock_ms(self) -> int:
        return self._partition.sessionizer.clock.now

    @property
    def counters(self) -> ClickCounters:
        return self._partition.counters

    def process(self, records: Sequence[Record]) -> Iterator[Session]:
        """Take in records. Raises UnknownSchema: once that is at hand, the same may be handed in again."""
        while self._drains_ms:
            at = self._drains_ms[0]
            before = next((i for i, record in enumerate(records) if record.timestamp > at), None)
            if before is None:
                break
            yield from self._process(records[:before])
            yield from self._drain_at(self._drains_ms.pop(0))
            records = records[before:]
        yield from self._process(records)

    def idle(self, until_ms: int) -> Iterator[Session]:
        """Every record that arrived before `until_ms` has been handed in."""
        while self._drains_ms and self._drains_ms[0] <= until_ms:
            yield from self._drain_at(self._drains_ms.pop(0))
        yield from self._tick(until_ms)

    def drain(self) -> Iterator[Session]:
        """The end of input: close what is open."""
        while self._drains_ms:
            yield from self._drain_at(self._drains_ms.pop(0))
        yield from self._drain()

    def unscored(self, session: Session) -> None:
        """Count a session that was yielded as one that nothing could score."""
        self.selection.sessions -= 1
        self.selection.clicks -= session.event_count
        self.selection.closed_by[session.close_reason] -= 1
        self.selection.unscored_sessions += 1
        self.selection.unscored_clicks += session.event_count

    def snapshot(self) -> ReplaySnapshot:
        """The state between two calls; it shares nothing that changes only if it is encoded at once."""
        sessionizer = self._partition.sessionizer
        return ReplaySnapshot(
            self.position,
            sessionizer.clock,
            sessionizer.stored_sessions(),
            self.counters,
            self.selection,
            self._undetermined.reaches,
        )

    def _process(self, records: Sequence[Record]) -> Iterator[Session]:
        index = 0
        while index < len(records):
            index = self._partition.process(records, index)
            yield from self._pending()

    def _drain_at(self, at_ms: int) -> Iterator[Session]:
        yield from self._tick(at_ms)
        yield from self._drain()

    def _tick(self, until_ms: int) -> Iterator[Session]:
        while self.clock_ms < until_ms:
            self._partition.tick(until_ms)
            yield from self._pending()

    def _drain(self) -> Iterator[Session]:
        done = False
        while not done:
            done = self._partition.drain()
            yield from self._pending()

    def _pending(self) -> Iterator[Session]:
        """Everything that has piled up, until nothing is due."""
        partition = self._partition
        while True:
            pending = partition.take()
            for record in pending.dead:
                stage = dict(record.headers)[STAGE_HEADER].decode()
                self.selection.count_dead(stage, record.reason)
            for session in pending.sessions:
                if session.is_final and self._is_selected(session):
                    yield session
            if not partition.sessionizer.has_due:
                break
            partition.resume_closing()
        partition.sessionizer.forget_changes()

    def _is_selected(self, session: Session) -> bool:
        counts = self.selection
        is_undetermined = self._undetermined.is_undetermined(session)
        if is_undetermined:
            self._on_undetermined(session)
        if not self._time_range.holds(session.closed_at):
            counts.outside_sessions += 1
            counts.outside_clicks += session.event_count
        elif is_undetermined:
            counts.undetermined_sessions += 1
            counts.undetermined_clicks += session.event_count
        else:
            counts.sessions += 1
            counts.clicks += session.event_count
            reason = cast(str, session.close_reason)
            counts.closed_by[reason] = counts.closed_by.get(reason, 0) + 1
        return not is_undetermined and self._time_range.holds(session.closed_at)


def _noted(erased: Mapping[str, int]) -> Erasures:
    erasures = Erasures()
    for visitor_id, until_ms in erased.items():
        erasures.note(visitor_id, until_ms, 0)
    return erasures
