"""The way of a click through one partition, without I/O: worker and replay run the same.

Records go in by `process`, moments of silence by `tick`; closed sessions and side outputs pile up until
`take`. Each record ends in exactly one place, which `counters` counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import msgspec

from schemas.click import Session
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.dead_letter_limit import DeadLetterLimit, DeadLetterTally, TooManyDeadLetters
from streamer.pipeline.dead_letters import (
    REASON_HEADER,
    Header,
    cut_to_size,
    dead_letter_headers,
    late_headers,
)
from streamer.pipeline.decode import Arrived, Rejected
from streamer.pipeline.erasures import Erasures

try:
    from streamer.pipeline.lane import Lane
except ImportError:  # it couldn't be built
    Lane = None  # type: ignore[assignment,misc]

MAX_TAKE = 2000
"""Closed sessions, and likewise side outputs, that one take may hold: a transaction stays short."""


MAX_FORWARDED_BYTES = 6 * 1024 * 1024
"""Of a record on its way to a side output, whose topics take 8 MiB; of a larger one the beginning goes."""


class Record(Protocol):
    """A record of the source topic, as clients and files give it. `timestamp` is arrival time in ms."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[Header]: ...


class SideOutputRecord(NamedTuple):
    """A record that goes to a side output as it came: original key and bytes."""

    key: bytes | None
    value: bytes | None
    headers: list[Header]

    @property
    def reason(self) -> str:
        """Why it is here, as its header says; empty for a late record."""
        return dict(self.headers).get(REASON_HEADER, b"").decode()


class PendingOutputs(NamedTuple):
    """What has piled up since the last take, in order."""

    sessions: list[Session]
    """Closed ones, and provisional records of open ones."""
    late: list[SideOutputRecord]
    dead: list[SideOutputRecord]
    erased: list[str]
    """Visitors whose latest intents have to go, before the sessions come."""


_JOINED = Outcome.JOINED
Decode = Callable[[bytes | None, int, str], Arrived | None]


class Partition:
    """One source partition: its sessionizer, its place in the log, its counters."""

    def __init__(
        self,
        topic: str,
        number: int,
        sessionizer: Sessionizer,
        decode: Decode,
        *,
        position: int = 0,
        counters: ClickCounters | None = None,
        erasures: Erasures | None = None,
        limit: DeadLetterLimit | None = None,
        dead_letters: DeadLetterTally | None = None,
        max_forwarded_bytes: int = MAX_FORWARDED_BYTES,
    ) -> None:
        self.topic = topic
        self.number = number
        self.sessionizer = sessionizer
        self.position = position
        """Offset of the next record."""
        self.counters = counters or ClickCounters()
        self.erasures = erasures or Erasures()
        self.dead_letters = dead_letters or DeadLetterTally()
        self._erased_until = self.erasures.until
        self._max_forwarded_bytes = max_forwarded_bytes
        self._limit = limit
        """None: dead letters without end, as a replay needs it."""
        self._refused: TooManyDeadLetters | None = None
        self._decode = decode
        self._id_prefix = f"{topic}-{number}-"
        self._pending = PendingOutputs([], [], [], [])
        self._draining: Iterator[Session] | None = None
        self._lane = None if Lane is None else Lane(sessionizer, decode, self.erasures, self._id_prefix)

    @property
    def is_full(self) -> bool:
        """Whether `take` has to be called before the next record."""
        pending = self._pending
        return (
            self.sessionizer.has_due
            or len(pending.sessions) >= MAX_TAKE
            or len(pending.late) + len(pending.dead) + len(pending.erased) >= MAX_TAKE
        )

    def process(self, records: Sequence[Record], start: int = 0) -> int:
        """Take in records from index `start` on; returns the index of the first one not taken in.

        Stops early when it `is_full`. Records below `position` were taken in before and are skipped.
        Raises TooManyDeadLetters at a record that exceeds the limit, and from then on: that record and those
        after it are not taken in.
        """
        if self._refused is not None:
            raise self._refused
        if self.is_full:
            return start
        if self._lane is None or not isinstance(records, list):
            return self._process(records, start, len(records))
        usual, index = self._lane, start
        counters, closed = self.counters, self._pending.sessions
        while index < len(records):
            count = len(closed)
            index = usual.take_in(records, index, self.position, closed, MAX_TAKE - count)
            self.position = usual.position
            counters.received += usual.received
            counters.sessions += len(closed) - count
            counters.closed += usual.closed
            if self.sessionizer.has_due:
                self._close_due()
                if self.is_full:
                    return index
            elif index < len(records):
                done = self._process(records, index, index + 1)
                if done == index or self.is_full:
                    return done
                index = done
        return index

    # One function, the usual way of a click in plain sight: here a call costs as much as several look-ups.
    def _process(self, records: Sequence[Record], start: int, end: int) -> int:
        position, counters, sessionizer, decode = self.position, self.counters, self.sessionizer, self._decode
        clock, add, erased = sessionizer.clock, sessionizer.add, self._erased_until
        for index, record in enumerate(islice(records, start, end), start):
            offset, timestamp = record.offset, record.timestamp
            if offset < position:
                continue
            moves = timestamp > clock.now or timestamp < clock.idle_until
            if moves and not self._arrive(timestamp):
                return index
            self.position = offset + 1
            counters.received += 1
            try:
                arrived = decode(record.value, clock.now, "")
            except Rejected as rejected:
                self._dead_letter(record, rejected.stage, rejected.reason)
            else:
                if arrived is None:
                    counters.filtered += 1
                    continue
                if erased and self.erasures.covers(arrived.visitor_id, clock.now):
                    self._pass_over(arrived.click.timestamp)
                else:
                    click = arrived.click
                    if not click.event_id:
                        click = msgspec.structs.replace(click, event_id=f"{self._id_prefix}{offset}")
                    outcome = add(arrived.visitor_id, click, offset, arrived.user_id, arrived.crawler)
                    if outcome is _JOINED and not sessionizer.has_due and not sessionizer.merged_duplicates:
                        continue
                    self._settle(record, outcome)
            if self.is_full:
                return index + 1
        return end

    def erase(self, visitor_id: str, until_ms: int, offset: int) -> None:
        """Take in the erasure at `offset` of its topic: what arrived of the visitor up to `until_ms` goes.

        A session with any such click goes whole. What has been taken before is out of reach. Every click
        that goes is counted as filtered. Doing it again changes nothing.
        """
        self.erasures.note(visitor_id, until_ms, offset)
        counters, pending = self.counters, self._pending
        counters.filtered += self.sessionizer.forget(visitor_id, until_ms)
        for session in [s for s in pending.sessions if s.visitor_id == visitor_id]:
            pending.sessions.remove(session)
            if not session.is_final:
                continue
            counters.sessions -= 1
            counters.closed -= session.event_count
            counters.filtered += session.event_count
        counters.late -= self._withdrawn(pending.late, visitor_id)
        counters.dead_lettered -= self._withdrawn(pending.dead, visitor_id)
        pending.erased.append(visitor_id)

    def _withdrawn(self, forwarded: list[SideOutputRecord], visitor_id: str) -> int:
        """How many records with the visitor as key were taken out again; they count as filtered."""
        kept = [each for each in forwarded if each.key != visitor_id.encode()]
        count = len(forwarded) - len(kept)
        forwarded[:] = kept
        self.counters.filtered += count
        return count

    def tick(self, now_ms: int) -> None:
        """Silence up to `now_ms` on the arrival clock: no record arrived before it that isn't taken in."""
        clock = self.sessionizer.clock
        if not self.is_full and now_ms > clock.now:
            self._arrive(now_ms)
            clock.idle_until = clock.now

    def resume_closing(self) -> None:
        """Go on with what an earlier take left to close."""
        if self.sessionizer.has_due:
            self._close_due()

    def drain(self) -> bool:
        """Close open sessions for good, as many as one take may hold; returns whether that was all."""
        if self._draining is None:
            self._draining = self.sessionizer.drain()
        room = MAX_TAKE - len(self._pending.sessions)
        drained = list(islice(self._draining, max(room, 0)))
        self._closed(drained)
        if len(drained) < room:
            self._draining = None
            return True
        return False

    def take(self) -> PendingOutputs:
        """Everything that has piled up; it is gone from here."""
        taken, self._pending = self._pending, PendingOutputs([], [], [], [])
        return taken

    @property
    def has_pending(self) -> bool:
        return any(self._pending)

    @property
    def clock_behind(self) -> int:
        """Records that arrived before a moment that `tick` had already declared silent."""
        return self.counters.clock_behind

    def _arrive(self, timestamp: int) -> bool:
        """Move the arrival clock; False if more comes of that than one take may hold: do it again then."""
        sessionizer = self.sessionizer
        if timestamp < sessionizer.clock.idle_until:
            self.counters.clock_behind += 1
            self.counters.behind_at = timestamp
        while sessionizer.next_early <= timestamp:
            if not self._move_clock(sessionizer.next_early) or self.is_full:
                return False
            self._pending.sessions.extend(sessionizer.take_early())
            if self.is_full:
                return False
        return self._move_clock(timestamp)

    def _move_clock(self, timestamp: int) -> bool:
        self.sessionizer.arrive(timestamp)
        if self.sessionizer.has_due:
            self._close_due()
        return not self.sessionizer.has_due

    def _pass_over(self, timestamp: int) -> None:
        """An erased visitor's click. Time goes on as it did before the erasure was known: a replay closes
        others' sessions alike."""
        self.counters.filtered += 1
        self.sessionizer.pass_over(timestamp)
        if self.sessionizer.has_due:
            self._close_due()

    def _settle(self, record: Record, outcome: Outcome) -> None:
        """What else comes of a click that the sessionizer has taken in or refused."""
        counters, sessionizer = self.counters, self.sessionizer
        if outcome is Outcome.DUPLICATE:
            counters.duplicates += 1
        elif outcome is Outcome.LATE:
            counters.late += 1
            headers = late_headers(self.topic, self.number, record, sessionizer.clock.watermark)
            self._pending.late.append(self._forwarded(record, headers))
        elif outcome is not _JOINED:
            self._dead_letter(record, "validate", outcome.value)
        counters.duplicates += sessionizer.merged_duplicates
        sessionizer.merged_duplicates = 0
        if sessionizer.has_due:
            self._close_due()

    def _dead_letter(self, record: Record, stage: str, reason: str) -> None:
        counters = self.counters
        if self._erased_until and self._is_erased(record.key):
            counters.filtered += 1
            return
        if self._limit is not None:
            self._count_dead_letter(record, self._limit, f"{stage}: {reason}")
        counters.dead_lettered += 1
        headers = dead_letter_headers(self.topic, self.number, record, stage, reason)
        self._pending.dead.append(self._forwarded(record, headers))

    def _forwarded(self, record: Record, headers: list[Header]) -> SideOutputRecord:
        return SideOutputRecord(*cut_to_size(record.key, record.value, headers, self._max_forwarded_bytes))

    def _is_erased(self, key: bytes | None) -> bool:
        """Whether a record that can't be read is an erased visitor's, by its key."""
        visitor_id = (key or b"").decode(errors="replace")
        return self.erasures.covers(visitor_id, self.sessionizer.clock.now)

    def _count_dead_letter(self, record: Record, limit: DeadLetterLimit, why: str) -> None:
        """Count it, or, if that is one too many, leave the record as if it had not been read."""
        tally = self.dead_letters.plus(self.counters.received, limit)
        excess = tally.excess(limit)
        if excess is None:
            self.dead_letters = tally
            return
        self.counters.received -= 1
        self.position = record.offset
        self._refused = TooManyDeadLetters(
            record.offset, f"{self.topic} partition {self.number} offset {record.offset} ({why}): {excess}"
        )
        raise self._refused

    def _close_due(self) -> None:
        room = MAX_TAKE - len(self._pending.sessions)
        if room > 0:
            self._closed((self._lane or self.sessionizer).close_due(room))

    def _closed(self, sessions: list[Session]) -> None:
        self.counters.sessions += len(sessions)
        self.counters.closed += sum(session.event_count for session in sessions)
        self._pending.sessions.extend(sessions)
