"""The way of a click through one partition, without I/O: worker and replay run the same.

Records go in by `process`, moments of idleness by `tick`; closed sessions and side outputs pile up until
`take`. Each record ends in exactly one place, which `counters` counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.native.record_fields import headers_of, offset_of, timestamp_of, value_of
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.dead_letter_limit import DeadLetterLimit, DeadLetterTally, TooManyDeadLetters
from streamer.pipeline.dead_letters import (
    REASON_HEADER,
    Header,
    cut_to_size,
    dead_letter_headers,
    first_arrival,
    late_headers,
)
from streamer.pipeline.decode import Arrived, Rejected, with_event_id
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.registered import UnknownSchema
from streamer.pipeline.trace_context import with_context
from streamer.schemas.click import Session

MAX_TAKE = 2000
"""Closed sessions, and likewise side outputs, that one take may hold: a transaction stays short."""


MAX_FORWARDED_BYTES = 6 * 1024 * 1024
"""Of a record on its way to a side output, whose topics take 8 MiB; of a larger one the beginning goes."""


LOG_APPEND_TIME = 1
"""A record's `timestamp_type`: its `timestamp` is the broker's."""
NO_ARRIVAL = "create_time"


class Record(Protocol):
    """A record of the source topic, as clients and files give it. `timestamp` is arrival time in ms, if its
    `timestamp_type` is LOG_APPEND_TIME."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def timestamp_type(self) -> int | None: ...

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


class PartitionState(NamedTuple):
    """What is kept of a partition beside its sessions; by default that of one which nothing was read of."""

    position: int = 0
    """Offset of the next record."""
    counters: ClickCounters | None = None
    erasures: Erasures | None = None
    dead_letters: DeadLetterTally | None = None


Whole = Callable[[bytes | None, Sequence[Header]], bytes | None]


@dataclass(frozen=True)
class PartitionPolicy:
    """How records that aren't clicks are dealt with."""

    limit: DeadLetterLimit | None = None
    """None: dead letters without end, as a replay needs it."""
    max_forwarded_bytes: int = MAX_FORWARDED_BYTES
    """Longest record in a side output; what is longer is cut."""
    needs_arrival: bool = False
    """A record whose timestamp isn't the broker's is a dead letter."""
    whole: Whole | None = None
    """Puts together a value of which headers have a part; None: they have none."""
    trace_context: Callable[[Sequence[Header]], str | None] | None = None
    """Reads from headers the context that is kept with a click; None: none is kept."""


_DEFAULT_POLICY = PartitionPolicy()
_JOINED, _LATE, _DUPLICATE = Outcome.JOINED, Outcome.LATE, Outcome.DUPLICATE
Decode = Callable[[bytes | None, int, str], Arrived | None]


class Partition:
    """One source partition: its sessionizer, its place in the log, its counters."""

    def __init__(
        self,
        topic: str,
        number: int,
        sessionizer: Sessionizer,
        decode: Decode,
        state: PartitionState | None = None,
        policy: PartitionPolicy = _DEFAULT_POLICY,
    ) -> None:
        state = state or PartitionState()
        self.topic = topic
        self.number = number
        self.sessionizer = sessionizer
        self.position = state.position
        """Offset of the next record."""
        self.counters = state.counters or ClickCounters()
        self.erasures = state.erasures or Erasures()
        self.dead_letters = state.dead_letters or DeadLetterTally()
        self.has_login = False
        """Whether a login's provisional record has piled up: somebody waits for it."""
        self._erased_until = self.erasures.until
        self._limit = policy.limit
        self._max_forwarded_bytes = policy.max_forwarded_bytes
        self._needs_arrival = policy.needs_arrival
        self._whole = policy.whole
        self._trace_context = policy.trace_context
        self._refused: TooManyDeadLetters | None = None
        self._decode = decode
        self._id_prefix = f"{topic}-{number}-"
        self._sessions: list[Session] = []
        self._late: list[SideOutputRecord] = []
        self._dead: list[SideOutputRecord] = []
        self._erased: list[str] = []
        self._draining: Iterator[Session] | None = None

    @property
    def is_full(self) -> bool:
        """Whether `take` has to be called before the next record."""
        return self._is_full()

    def process(self, records: Sequence[Record], start: int = 0) -> int:
        """Take in records from index `start` on; returns the index of the first one not taken in.

        All are of one `timestamp_type`. Stops early when it `is_full`. Records below `position` were taken in
        before and are skipped.
        Raises TooManyDeadLetters at a record that exceeds the limit, and from then on: that record and those
        after it are not taken in. Raises UnknownSchema at a record whose schema isn't at hand: once it is,
        the same records may be handed in again.
        """
        if self._refused is not None:
            raise self._refused
        if self._is_full():
            return start
        if self._needs_arrival and start < len(records) and records[start].timestamp_type != LOG_APPEND_TIME:
            return self._refuse(records, start)
        clock = self.sessionizer.clock
        for index in range(start, len(records)):
            record = records[index]
            offset = offset_of(record)
            if offset < self.position:
                continue
            arrival = timestamp_of(record)
            if (arrival > clock.now or arrival < clock.idle_until) and not self._arrive(arrival):
                return index
            self.position = offset + 1
            self.counters.received += 1
            if self._take_in(record, offset) and self._is_full():
                return index + 1
        return len(records)

    def _refuse(self, records: Sequence[Record], start: int) -> int:
        """As `process`, of records that don't say when they arrived: the clock stands still."""
        for index in range(start, len(records)):
            record = records[index]
            if record.offset < self.position:
                continue
            self.position = record.offset + 1
            self.counters.received += 1
            if self._declines(record):
                self.counters.filtered += 1
                continue
            self._dead_letter(record, "validate", NO_ARRIVAL)
            if self._is_full():
                return index + 1
        return len(records)

    def _declines(self, record: Record) -> bool:
        """Whether this is a click without consent."""
        try:
            return self._decode(self._value(record), record.timestamp, "") is None
        except Rejected:
            return False
        except UnknownSchema:
            self._leave(record)
            raise

    def _value(self, record: Record) -> bytes | None:
        return record.value if self._whole is None else self._whole(record.value, record.headers)

    def _leave(self, record: Record) -> None:
        """As if the record had not been read."""
        self.counters.received -= 1
        self.position = record.offset

    def _take_in(self, record: Record, offset: int) -> bool:
        """Do what the record asks for, at the arrival clock; False if nothing can be due after it."""
        sessionizer = self.sessionizer
        now = sessionizer.clock.now
        headers = headers_of(record)
        try:
            if headers:
                arrived = self._with_headers(record, headers, now)
            else:
                arrived = self._decode(value_of(record), now, "")
        except Rejected as rejected:
            self._dead_letter(record, rejected.stage, rejected.reason)
            return True
        except UnknownSchema:
            self._leave(record)
            raise
        if arrived is None:
            self.counters.filtered += 1
            return False
        click = arrived.click
        if not arrived.is_click:
            self.counters.filtered += 1
            sessionizer.tell_dwell(arrived.visitor_id, click)
            return False
        if self._erased_until and self.erasures.covers(arrived.visitor_id, now):
            self._pass_over(click.timestamp)
            return True
        if not click.event_id:
            click = with_event_id(click, f"{self._id_prefix}{offset}")
        outcome = sessionizer.add(arrived.visitor_id, click, offset, arrived.user_id, arrived.crawler)
        if (
            outcome is _JOINED
            and not sessionizer.has_due
            and not sessionizer.merged_duplicates
            and not sessionizer.logins
            and not sessionizer.revised
        ):
            return False
        self._settle(record, outcome)
        return True

    def _with_headers(self, record: Record, headers: Sequence[Header], now: int) -> Arrived | None:
        """What the record holds, by its headers too. Raises what decoding does."""
        arrived = self._decode(self._value(record), first_arrival(headers, now), "")
        if self._trace_context is not None and arrived is not None:
            context = self._trace_context(headers)
            if context is not None:
                arrived.click.extras = with_context(arrived.click.extras, context)
        return arrived

    def erase(self, visitor_id: str, until_ms: int, offset: int) -> None:
        """Take in the erasure at `offset` of its topic: what arrived of the visitor up to `until_ms` goes.

        A session with any such click goes whole. What has been taken before is out of reach. Every click
        that goes is counted as filtered. Doing it again changes nothing.
        """
        self.erasures.note(visitor_id, until_ms, offset)
        counters, sessions = self.counters, self._sessions
        withdrawn = [s for s in sessions if s.visitor_id == visitor_id]
        surpassed = self.sessionizer.forget_closed(visitor_id, withdrawn)
        counters.filtered += self.sessionizer.forget(visitor_id, until_ms)
        for session in withdrawn:
            sessions.remove(session)
            if not session.is_final or session in surpassed:
                continue
            counters.sessions -= 1
            counters.closed -= session.event_count
            counters.filtered += session.event_count
        counters.late -= self._withdrawn(self._late, visitor_id)
        counters.dead_lettered -= self._withdrawn(self._dead, visitor_id)
        self._erased.append(visitor_id)

    def _withdrawn(self, forwarded: list[SideOutputRecord], visitor_id: str) -> int:
        """How many records with the visitor as key were taken out again; they count as filtered."""
        kept = [each for each in forwarded if each.key != visitor_id.encode()]
        count = len(forwarded) - len(kept)
        forwarded[:] = kept
        self.counters.filtered += count
        return count

    def tick(self, now_ms: int) -> None:
        """Idleness up to `now_ms` on the arrival clock: no record arrived before it that isn't taken in."""
        clock = self.sessionizer.clock
        if not self._is_full() and now_ms > clock.now:
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
        room = MAX_TAKE - len(self._sessions)
        drained = list(islice(self._draining, max(room, 0)))
        self._closed(drained)
        if len(drained) < room:
            self._draining = None
            return True
        return False

    def take(self) -> PendingOutputs:
        """Everything that has piled up; it is gone from here."""
        taken = PendingOutputs(self._sessions, self._late, self._dead, self._erased)
        self._sessions, self._late, self._dead, self._erased = [], [], [], []
        self.has_login = False
        return taken

    @property
    def has_pending(self) -> bool:
        return bool(self._sessions or self._late or self._dead or self._erased)

    @property
    def clock_behind(self) -> int:
        """Records that arrived before a moment that `tick` had already declared idle."""
        return self.counters.clock_behind

    def _arrive(self, timestamp: int) -> bool:
        """Move the arrival clock; False if more comes of that than one take may hold: do it again then."""
        sessionizer = self.sessionizer
        if timestamp < sessionizer.clock.idle_until:
            self.counters.clock_behind += 1
            self.counters.behind_at = timestamp
        while sessionizer.next_early() <= timestamp:
            if not self._move_clock(sessionizer.next_early()) or self._is_full():
                return False
            self._sessions.extend(sessionizer.take_early())
            if self._is_full():
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
        if outcome is _DUPLICATE:
            counters.duplicates += 1
        elif outcome is _LATE:
            counters.late += 1
            clock = sessionizer.clock
            headers = late_headers(self.topic, self.number, record, clock.watermark, clock.now)
            self._late.append(self._forwarded(record, headers))
        elif outcome is not _JOINED:
            self._dead_letter(record, "validate", outcome.value)
        counters.duplicates += sessionizer.merged_duplicates
        sessionizer.merged_duplicates = 0
        if sessionizer.logins:
            self._sessions.extend(sessionizer.logins)
            sessionizer.logins = []
            self.has_login = True
        self._count_revised()
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
        arrival = None if reason == NO_ARRIVAL else self.sessionizer.clock.now
        headers = dead_letter_headers(self.topic, self.number, record, stage, reason, arrival)
        self._dead.append(self._forwarded(record, headers))

    def _forwarded(self, record: Record, headers: list[Header]) -> SideOutputRecord:
        return SideOutputRecord(*cut_to_size(record.key, record.value, headers, self._max_forwarded_bytes))

    def _is_erased(self, key: bytes | None) -> bool:
        """Whether a record that can't be read is an erased visitor's, by its key."""
        visitor_id = (key or b"").decode(errors="replace")
        return self.erasures.covers(visitor_id, self.sessionizer.clock.now)

    def _count_dead_letter(self, record: Record, limit: DeadLetterLimit, why: str) -> None:
        """Count it, or, if that is one too many, leave the record."""
        tally = self.dead_letters.plus(self.counters.received, limit)
        excess = tally.excess(limit)
        if excess is None:
            self.dead_letters = tally
            return
        self._leave(record)
        self._refused = TooManyDeadLetters(
            record.offset, f"{self.topic} partition {self.number} offset {record.offset} ({why}): {excess}"
        )
        raise self._refused

    def _close_due(self) -> None:
        # Even without room: what the last click has closed is in no state any more.
        room = max(MAX_TAKE - len(self._sessions), 0)
        self._closed(self.sessionizer.close_due(room))

    def _closed(self, sessions: list[Session]) -> None:
        counters = self.counters
        for session in sessions:
            if session.is_final:
                counters.sessions += 1
                counters.closed += session.event_count
        self._count_revised()
        self._sessions.extend(sessions)

    def _count_revised(self) -> None:
        """Final records whose place others take are of no session, and their clicks are counted again."""
        counters, sessionizer = self.counters, self.sessionizer
        if sessionizer.revised:
            counters.sessions -= sessionizer.revised
            counters.closed -= sessionizer.revised_clicks
            counters.revised += sessionizer.revised
            counters.revised_clicks += sessionizer.revised_clicks
            sessionizer.revised = sessionizer.revised_clicks = 0

    def _is_full(self) -> bool:
        return (
            self.sessionizer.has_due
            or len(self._sessions) >= MAX_TAKE
            or len(self._late) + len(self._dead) + len(self._erased) >= MAX_TAKE
        )
