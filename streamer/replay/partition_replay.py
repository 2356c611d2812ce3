"""One partition of a replay: records, silence and the end of input in, sessions of the stretch out. Pure.

It drives the worker's own `Partition`. A result doesn't depend on how records are split into batches, on
when silence is told, or on where it is stopped and goes on from a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import msgspec

from schemas.click import Session
from streamer.core.clock import PartitionClock
from streamer.core.rules import SessionRules
from streamer.core.session import OpenSession
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.dead_letters import STAGE_HEADER
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import Decode, Partition, Record
from streamer.replay.stretch import Chains, Stretch
from streamer.replay.tally import Tally


class Snapshot(msgspec.Struct):
    """All that a partition's replay has to know to go on."""

    position: int
    clock: PartitionClock
    sessions: list[OpenSession]
    counters: ClickCounters
    tally: Tally
    reaches: dict[str, int]


class PartitionReplay:
    """Hand it records in order; take what it yields before the next call."""

    def __init__(
        self,
        topic: str,
        number: int,
        stretch: Stretch,
        rules: SessionRules,
        decode: Decode,
        *,
        start: int = 0,
        unread_until_ms: int | None = None,
        idle_closing: bool = True,
        early_every_ms: int = 0,
        drains_ms: Sequence[int] = (),
        erased: Mapping[str, int] | None = None,
        on_torn: Callable[[Session], None] = lambda _: None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """`start`: offset of the first record to read. `early_every_ms`: what live has; provisional records
        are not yielded, but count in the final ones' `revision`. `drains_ms`: arrival times at which
        everything open was closed, in order: what a drained worker did is not in the log. `erased`: visitor
        -> arrival time up to which their clicks are dropped, and counted as filtered. `on_torn` is told of
        sessions that are undetermined, within the stretch or not."""
        self.stretch = stretch
        self._on_torn = on_torn
        self.tally = snapshot.tally if snapshot else Tally()
        erasures = Erasures()
        for visitor_id, until_ms in (erased or {}).items():
            erasures.note(visitor_id, until_ms, 0)
        self._chains = Chains(unread_until_ms, rules, snapshot.reaches if snapshot else None)
        self._partition = Partition(
            topic,
            number,
            Sessionizer(
                rules,
                idle_closing=idle_closing,
                early_every_ms=early_every_ms,
                clock=snapshot.clock if snapshot else None,
                sessions=snapshot.sessions if snapshot else (),
            ),
            decode,
            position=snapshot.position if snapshot else start,
            counters=snapshot.counters if snapshot else None,
            erasures=erasures,
        )
        self._drains_ms = [at for at in drains_ms if at >= self.clock_ms]

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
        """Take in records."""
        while self._drains_ms:
            at = self._drains_ms[0]
            before = next((i for i, record in enumerate(records) if record.timestamp > at), None)
            if before is None:
                break
            yield from self._process(records[:before])
            yield from self._drain_at(self._drains_ms.pop(0))
            records = records[before:]
        yield from self._process(records)

    def silence(self, until_ms: int) -> Iterator[Session]:
        """Say that every record which arrived before `until_ms` has been handed in."""
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
        self.tally.sessions -= 1
        self.tally.clicks -= session.event_count
        self.tally.closed_by[session.close_reason] -= 1
        self.tally.unscored_sessions += 1
        self.tally.unscored_clicks += session.event_count

    def snapshot(self) -> Snapshot:
        """The state between two calls; it shares nothing that changes only if it is encoded at once."""
        sessionizer = self._partition.sessionizer
        windows = [w for visitor in sessionizer.visitors() for w in sessionizer.open_sessions(visitor)]
        return Snapshot(
            self.position, sessionizer.clock, windows, self.counters, self.tally, self._chains.reaches
        )

    def _process(self, records: Sequence[Record]) -> Iterator[Session]:
        index = 0
        while index < len(records):
            index = self._partition.process(records, index)
            yield from self._taken()

    def _drain_at(self, at_ms: int) -> Iterator[Session]:
        yield from self._tick(at_ms)
        yield from self._drain()

    def _tick(self, until_ms: int) -> Iterator[Session]:
        while self.clock_ms < until_ms:
            self._partition.tick(until_ms)
            yield from self._taken()

    def _drain(self) -> Iterator[Session]:
        done = False
        while not done:
            done = self._partition.drain()
            yield from self._taken()

    def _taken(self) -> Iterator[Session]:
        """Everything that has piled up, until nothing is due."""
        partition = self._partition
        while True:
            taken = partition.take()
            for forwarded in taken.dead:
                stage = dict(forwarded.headers)[STAGE_HEADER].decode()
                self.tally.count_dead(stage, forwarded.reason)
            for session in taken.sessions:
                if session.is_final and self._is_selected(session):
                    yield session
            if not partition.sessionizer.has_due:
                break
            partition.resume_closing()
        partition.sessionizer.forget_changes()

    def _is_selected(self, session: Session) -> bool:
        tally = self.tally
        is_torn = self._chains.is_torn(session)
        if is_torn:
            self._on_torn(session)
        if not self.stretch.holds(session.closed_at):
            tally.outside_sessions += 1
            tally.outside_clicks += session.event_count
        elif is_torn:
            tally.torn_sessions += 1
            tally.torn_clicks += session.event_count
        else:
            tally.sessions += 1
            tally.clicks += session.event_count
            reason = cast(str, session.close_reason)
            tally.closed_by[reason] = tally.closed_by.get(reason, 0) + 1
        return not is_torn and self.stretch.holds(session.closed_at)
