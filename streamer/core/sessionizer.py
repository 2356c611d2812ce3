"""Session windows of one partition: clicks and arrival times in, closed sessions out.

Rules kept here: arrival time never goes back; per record first the clock, then duplicates, join or merge,
caps, watermark, closing; a window closes when the watermark is beyond its end, in order of
(ended_at, session_id); silence closes windows and never moves the watermark. The caller hands in records
one by one and takes sessions with `close_due` before the next one, so a result never depends on batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise

from schemas.click import Click, CloseReason, Session
from streamer.core.click_codec import encode_click
from streamer.core.clock import PartitionClock
from streamer.core.rules import SessionRules
from streamer.core.session import (
    COMPACT_AT,
    ENTRY_BYTES,
    LastUser,
    OpenSession,
    event_hash,
    open_session,
    pack_entry,
)
from streamer.core.store import OpenWindows
from streamer.core.timers import Deadlines

try:
    from streamer.core.ends import WindowEnds
except ImportError:  # it couldn't be built
    WindowEnds = None  # type: ignore[assignment,misc]


class Outcome(Enum):
    """Where a click ended."""

    JOINED = "joined"
    LATE = "late"
    DUPLICATE = "duplicate"
    TOO_NEW = "event_time_in_future"
    TOO_OLD = "event_time_before_min"


_JOINED, _LATE, _DUPLICATE = Outcome.JOINED, Outcome.LATE, Outcome.DUPLICATE
_NEVER_IDLE = 1 << 62


class Sessionizer:
    """State and step of one partition. `idle_closing` is off where arrival time is not the broker's.

    `early_every_ms`: how often after its first arrival an open session that has got a click since is given
    out provisionally; 0: never. It has no influence on the sessions themselves.
    """

    def __init__(
        self,
        rules: SessionRules,
        *,
        idle_closing: bool = True,
        early_every_ms: int = 0,
        clock: PartitionClock | None = None,
        sessions: Iterable[OpenSession] = (),
    ) -> None:
        self.rules = rules
        self.clock = clock or PartitionClock()
        self._changed: dict[str, OpenSession | None] = {}
        """Visitors with changes; their only session where it is known without a look."""
        self.merged_duplicates = 0
        """Clicks that a merge found to be duplicates: they were counted as joined before."""
        self.has_due = False
        """Whether `close_due` has work; no further record may be handed in until it has none."""
        self._rules_version = rules.version
        self._gap_ms = rules.gap_ms
        self._max_duration_ms = rules.max_duration_ms
        self._usual_log_bytes = (min(rules.max_events, COMPACT_AT - 1) - 1) * ENTRY_BYTES
        """With a longer log one more click exceeds a cap, or makes a window let go of clicks."""
        self._end_events = rules.end_events
        self._out_of_orderness_ms = rules.out_of_orderness_ms
        self._max_future_ms = rules.max_future_ms
        self._min_timestamp_ms = rules.min_timestamp_ms
        self._idle_after_ms = rules.idle_after_ms if idle_closing and rules.idle_after_ms else _NEVER_IDLE
        self._open = OpenWindows(sessions)
        self._single = self._open.single
        self._deadlines = (
            Deadlines(self._first_window_ends)
            if WindowEnds is None
            else WindowEnds(self._first_window_ends, self._single, rules.gap_ms)
        )
        self._early_every_ms = early_every_ms
        self._early = Deadlines(self._first_early)
        for window in self._open:
            self._deadlines.note(window.visitor_id, self._window_end(window))
            if window.early_at:
                self._early.note(window.visitor_id, window.early_at)
        self._closing: list[tuple[OpenSession, CloseReason]] = []
        self._due: list[OpenSession] = []
        self._due_reason: CloseReason = "gap"
        self._find_due()

    def open_sessions(self, visitor_id: str) -> list[OpenSession]:
        """A visitor's open sessions by start; empty if there is none."""
        return self._open.of(visitor_id)

    def sessions_of(self, visitors: Mapping[str, OpenSession | None]) -> list[OpenSession]:
        """Open sessions of these visitors, each one's together and by start.

        Where a visitor comes with a session, that is the only one.
        """
        windows: list[OpenSession] = []
        single, several = self._single, self._open.several
        for visitor_id, known in visitors.items():
            only = known or single.get(visitor_id)
            if only is None:
                windows += several.get(visitor_id, ())
            else:
                windows.append(only)
        return windows

    def visitors(self) -> Iterator[str]:
        """Every visitor with an open session."""
        return self._open.visitors()

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def changed_count(self) -> int:
        """How many visitors' open sessions changed since `take_changed`."""
        return len(self._changed)

    def forget_changes(self) -> None:
        """As if nothing had changed: for who keeps no state beside this."""
        self._changed.clear()

    def take_changed(self) -> tuple[dict[str, OpenSession | None], list[str]]:
        """Visitors whose open sessions changed since the last time: those who have any, for `sessions_of`,
        and those who have none any more."""
        changed, self._changed = self._changed, {}
        single, several = self._single, self._open.several
        gone = [
            visitor_id
            for visitor_id, window in changed.items()
            if window is None and visitor_id not in single and visitor_id not in several
        ]
        for visitor_id in gone:
            del changed[visitor_id]
        return changed, gone

    @property
    def open_events(self) -> int:
        """Clicks in open sessions."""
        return sum(session.event_count for session in self._open)

    def arrive(self, arrival_ms: int) -> int:
        """Move the arrival clock to a record's arrival, or to a moment of silence; returns the clock."""
        clock = self.clock
        now = clock.now
        if arrival_ms > now:
            clock.now = now = arrival_ms
            if now - clock.raised_at >= self._idle_after_ms:
                self._find_due()
        return now

    def add(
        self, visitor_id: str, click: Click, offset: int, user_id: str | None = None, crawler: bool = False
    ) -> Outcome:
        """Take one click in, at the arrival that `arrive` last set. `offset` is its place in the log."""
        clock = self.clock
        now, timestamp = clock.now, click.timestamp
        seen = timestamp
        if timestamp > now:
            seen = now
            if timestamp > now + self._max_future_ms:
                return Outcome.TOO_NEW
        if timestamp < self._min_timestamp_ms:
            return Outcome.TOO_OLD
        id_hash = event_hash(click.event_id)
        window = self._single.get(visitor_id)
        if (
            window is not None
            and (since_end := timestamp - window.ended_at) <= self._gap_ms
            and 0 <= timestamp - window.started_at <= self._max_duration_ms
            and len(log := window.log) <= self._usual_log_bytes
            and log.find(id_hash) < 0
        ):
            # The usual case: the visitor's only window takes one more click. `_place` would do the same,
            # at four times the cost.
            if since_end > 0:
                window.ended_at = timestamp
            window.log = log + pack_entry(id_hash, timestamp, offset)
            window.kept += encode_click(click)
            self._changed[window.visitor_id] = window
        else:
            if window is None and visitor_id not in self._open.several:
                if timestamp + self._gap_ms < clock.watermark:
                    return _LATE
                window = self._start(visitor_id, click, id_hash, offset)
            else:
                placed = self._place(visitor_id, click, id_hash, offset)
                if isinstance(placed, Outcome):
                    return placed
                window = placed
            self._changed[visitor_id] = None
        if self._early_every_ms and not window.early_at:
            self._early.note(visitor_id, window.schedule_early(now, self._early_every_ms))
        if user_id is not None:
            window.note_user(LastUser(timestamp, click.event_id, user_id))
        if crawler:
            window.crawler = True
        if click.event_type in self._end_events:
            self._close_now(window, "explicit")
        risen = seen - self._out_of_orderness_ms
        if risen > clock.watermark:
            clock.watermark = risen
            clock.raised_at = now
            if risen > self._deadlines.first:
                self._find_due()
        elif now - clock.raised_at >= self._idle_after_ms:
            # Silence may have passed a window before the click that opens it came.
            self._find_due()
        return _JOINED

    @property
    def next_early(self) -> int:
        """Arrival time before which no provisional record is due. Stop the arrival clock there, if it gets
        so far: close what is due by then, and call `take_early`."""
        return self._early.first

    def take_early(self) -> list[Session]:
        """Provisional records due by the arrival clock, in order of (when due, session_id)."""
        due = [
            window
            for visitor_id in self._early.take(self.clock.now)
            for window in self._open.of(visitor_id)
            if 0 < window.early_at <= self.clock.now
        ]
        for window in due:
            self._changed[window.visitor_id] = None
        records = [window.provisional(self._rules_version) for window in due]
        for visitor_id, later in self._first_early({window.visitor_id for window in due}):
            self._early.note(visitor_id, later)
        return sorted(records, key=lambda record: (record.closed_at, record.session_id))

    def pass_over(self, timestamp: int) -> None:
        """Move the watermark as a click of this event time would that is not taken in."""
        clock, rules = self.clock, self.rules
        if not rules.min_timestamp_ms <= timestamp <= clock.now + rules.max_future_ms:
            return
        risen = min(timestamp, clock.now) - rules.out_of_orderness_ms
        if risen > clock.watermark:
            clock.watermark = risen
            clock.raised_at = clock.now
            self._find_due()

    def forget(self, visitor_id: str, until_ms: int) -> int:
        """Drop a visitor's sessions that have a click which arrived by `until_ms`; returns their clicks."""
        gone = [w for w in self._open.of(visitor_id) if w.opened_at <= until_ms]
        gone += [w for w, _ in self._closing if w.visitor_id == visitor_id and w.opened_at <= until_ms]
        self._due = [w for w in self._due if w not in gone]
        self._closing = [(w, reason) for w, reason in self._closing if w not in gone]
        for window in self._open.of(visitor_id):
            if window in gone:
                self._detach(window)
        return sum(window.event_count for window in gone)

    def close_due(self, limit: int) -> list[Session]:
        """Sessions that the last record, or silence, has closed, in closing order.

        At most `limit`, except that what one click closes by caps and end events (up to three) comes at
        once, after what is due of the same visitor. Call again while `has_due`. Any prefix is a valid
        state: a restored sessionizer goes on there.
        """
        closed: list[Session] = []
        for window, reason in self._closing:
            # A visitor's sessions come in their order, so that the last one published is the latest.
            closed += [self._close(w) for w in self._due[::-1] if w.visitor_id == window.visitor_id]
            self._due = [w for w in self._due if w.visitor_id != window.visitor_id]
            closed.append(window.close(reason, self.clock.now, self._rules_version))
        self._closing.clear()
        if not self._due:
            self._find_due()
        while self._due and len(closed) < limit:
            closed.append(self._close(self._due.pop()))
            if not self._due:
                self._find_due()
        self.has_due = bool(self._due) or len(closed) >= limit
        return closed

    def drain(self) -> Iterator[Session]:
        """Close everything that is open, at the arrival clock, in order of (ended_at, session_id)."""
        while self.has_due:
            yield from self.close_due(1)
        for window in reversed(self._in_closing_order(list(self._open))):
            self._detach(window)
            yield window.close("drain", self.clock.now, self._rules_version)

    # -- joining

    def _place(self, visitor_id: str, click: Click, id_hash: bytes, offset: int) -> OpenSession | Outcome:
        """Put the click into the visitor's windows: into one it touches, or between two, or on its own."""
        timestamp, gap = click.timestamp, self._gap_ms
        touched = [
            window
            for window in self._open.of(visitor_id)
            if window.started_at - gap <= timestamp <= window.ended_at + gap
        ]
        for window in touched:
            if window.holds(id_hash):
                return _DUPLICATE
        cap = self._cap_hit(touched[-1], timestamp) if touched else None
        if timestamp + gap < self.clock.watermark and (cap or not touched):
            return _LATE
        if len(touched) == 2:
            earlier, later = touched
            union_cap = self._union_cap_hit(earlier, later)
            if union_cap is None:
                return self._merge(earlier, later, click, id_hash, offset)
            self._close_now(earlier, union_cap)
        if touched and cap is None:
            touched[-1].add(click, id_hash, offset)
            return touched[-1]
        if cap is not None:
            self._close_now(touched[-1], cap)
        return self._start(visitor_id, click, id_hash, offset)

    def _start(self, visitor_id: str, click: Click, id_hash: bytes, offset: int) -> OpenSession:
        window = open_session(visitor_id, click, id_hash, offset, self.clock.now)
        self._open.insert(window)
        self._deadlines.note(visitor_id, click.timestamp + self._gap_ms)
        return window

    def _merge(
        self, earlier: OpenSession, later: OpenSession, click: Click, id_hash: bytes, offset: int
    ) -> OpenSession:
        """Join two windows by a click that touches both."""
        later.add(click, id_hash, offset)
        self._detach(earlier)
        self.merged_duplicates += later.absorb(earlier)
        later.early_at = 0  # it counts from another first arrival now
        # The earlier one's deadline stands for both. A dropped duplicate may bring the end forward, but not
        # to before the click, which comes after that deadline's window.
        return later

    # -- caps and end events

    def _cap_hit(self, window: OpenSession, timestamp: int) -> CloseReason | None:
        """The cap that one more click at `timestamp` would exceed."""
        if window.event_count + 1 > self.rules.max_events:
            return "max_events"
        if max(window.ended_at, timestamp) - min(window.started_at, timestamp) > self._max_duration_ms:
            return "max_duration"
        return None

    def _union_cap_hit(self, earlier: OpenSession, later: OpenSession) -> CloseReason | None:
        """The cap that both windows and the click between them would exceed together."""
        if earlier.event_count + later.event_count + 1 > self.rules.max_events:
            return "max_events"
        if later.ended_at - earlier.started_at > self._max_duration_ms:
            return "max_duration"
        return None

    def _close_now(self, window: OpenSession, reason: CloseReason) -> None:
        self._detach(window)
        self._closing.append((window, reason))
        self.has_due = True

    # -- time

    def _find_due(self) -> None:
        """Find the windows that the watermark has passed or else silence; none may be waiting before."""
        clock, deadlines = self.clock, self._deadlines
        horizon = clock.watermark - 1
        self._leave_due(self._ending_by(horizon) if horizon >= deadlines.first else [])
        if not self._due:
            horizon = clock.idle_horizon(self._idle_after_ms)
            if horizon >= deadlines.first:
                self._leave_due(self._ending_by(horizon), "idle")

    def _leave_due(self, windows: list[OpenSession], reason: CloseReason = "gap") -> None:
        """For `close_due`, last to close first."""
        self._due, self._due_reason = windows, reason
        if windows:
            self.has_due = True

    def _ending_by(self, horizon: int) -> list[OpenSession]:
        """Windows that end at or before `horizon`, last to close first; taken out of the deadlines."""
        return self._windows_ending(self._deadlines.take(horizon), horizon)

    def _windows_ending(self, visitors: Iterable[str], horizon: int) -> list[OpenSession]:
        """Of visitors who have such: their windows that end at or before `horizon`, last to close first."""
        ending: list[OpenSession] = []
        for visitor_id in visitors:
            only = self._single.get(visitor_id)
            if only is not None:
                ending.append(only)
                continue
            for window in self._open.of(visitor_id):
                window_end = self._window_end(window)
                if window_end > horizon:
                    self._deadlines.note(visitor_id, window_end)
                    break
                ending.append(window)
        return self._in_closing_order(ending)

    def _window_end(self, window: OpenSession) -> int:
        return window.ended_at + self._gap_ms

    def _first_window_ends(self, visitors: Iterable[str]) -> Iterator[tuple[str, int]]:
        gap = self._gap_ms
        return ((window.visitor_id, window.ended_at + gap) for window in self._open.first_to_end(visitors))

    def _first_early(self, visitors: Iterable[str]) -> Iterator[tuple[str, int]]:
        for visitor_id in visitors:
            due = [window.early_at for window in self._open.of(visitor_id) if window.early_at]
            if due:
                yield visitor_id, min(due)

    def _closing_time(self, window: OpenSession) -> int:
        """Arrival time at which the window closed: computed, so that no timer's tick is in it."""
        if self._due_reason == "gap":
            return self.clock.raised_at
        closes_at = self.clock.idle_close_at(self._window_end(window), self._idle_after_ms)
        return max(closes_at, window.opened_at)

    def _in_closing_order(self, windows: list[OpenSession]) -> list[OpenSession]:
        """Last to close first, so that `pop` gives the next. Ids are only worked out for ties."""
        if len(windows) < 2:
            return windows
        windows.sort(key=_end, reverse=True)
        tied = {a.ended_at for a, b in pairwise(windows) if a.ended_at == b.ended_at}
        if tied:
            windows.sort(
                key=lambda w: (w.ended_at, self._tie_breaker(w) if w.ended_at in tied else ""), reverse=True
            )
        return windows

    def _tie_breaker(self, window: OpenSession) -> str:
        return window.session_id(self._rules_version)

    def _close(self, window: OpenSession) -> Session:
        """Close a window that is due."""
        self._detach(window)
        return window.close(self._due_reason, self._closing_time(window), self._rules_version)

    def _detach(self, window: OpenSession) -> None:
        self._open.remove(window)
        self._changed[window.visitor_id] = None


def _end(window: OpenSession) -> int:
    return window.ended_at
