"""Session windows of one partition: clicks and arrival times in, closed sessions out.

Rules kept here: arrival time never goes back; per record first the clock, then duplicates, join or merge,
caps, watermark, closing; a window closes when the watermark is beyond its end, in order of
(ended_at, session_id); silence closes windows and never moves the watermark. The caller hands in records
one by one and takes sessions with `close_due` before the next one, so a result never depends on batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import pairwise

from schemas.click import Click, CloseReason, Session
from streamer.core.clock import PartitionClock
from streamer.core.rules import SessionRules
from streamer.core.window import OpenSession, event_hash, open_session


class Outcome(Enum):
    """Where a click ended."""

    JOINED = "joined"
    LATE = "late"
    DUPLICATE = "duplicate"
    TOO_NEW = "event_time_in_future"
    TOO_OLD = "event_time_before_min"


_JOINED, _LATE, _DUPLICATE = Outcome.JOINED, Outcome.LATE, Outcome.DUPLICATE


class Sessionizer:
    """State and step of one partition. `idle_closing` is off where arrival time is not the broker's."""

    def __init__(
        self,
        rules: SessionRules,
        *,
        idle_closing: bool = True,
        clock: PartitionClock | None = None,
        sessions: Iterable[OpenSession] = (),
    ) -> None:
        self.rules = rules
        self.clock = clock or PartitionClock()
        self.changed: set[str] = set()
        """Visitors whose open sessions changed since the caller last cleared this."""
        self.merged_duplicates = 0
        """Clicks that a merge found to be duplicates: they were counted as joined before."""
        self.has_due = False
        """Whether `close_due` has work; no further record may be handed in until it has none."""
        self._rules_version = rules.version
        self._idle_after_ms = rules.idle_after_ms if idle_closing else 0
        self._open: dict[str, list[OpenSession]] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._closing: list[tuple[OpenSession, CloseReason]] = []
        self._due: list[OpenSession] = []
        self._due_reason: CloseReason = "gap"
        for session in sessions:
            self._open.setdefault(session.visitor_id, []).append(session)
        for visitor_id, windows in self._open.items():
            windows.sort(key=_start)
            self._deadlines.append((self._window_end(windows[0]), visitor_id))
        heapify(self._deadlines)
        self.has_due = bool(self._open)

    def open_sessions(self, visitor_id: str) -> list[OpenSession]:
        """A visitor's open sessions by start; empty if there is none."""
        return self._open.get(visitor_id, [])

    def visitors(self) -> Iterator[str]:
        """Every visitor with an open session."""
        return iter(self._open)

    @property
    def open_count(self) -> int:
        return sum(map(len, self._open.values()))

    @property
    def open_events(self) -> int:
        """Clicks in open sessions."""
        return sum(session.event_count for windows in self._open.values() for session in windows)

    def arrive(self, arrival_ms: int) -> int:
        """Move the arrival clock to a record's arrival, or to a moment of silence; returns the clock."""
        clock = self.clock
        if arrival_ms > clock.now:
            clock.now = arrival_ms
            if (
                self._idle_after_ms
                and arrival_ms - clock.raised_at >= self._idle_after_ms
                and self._deadlines
                and self._deadlines[0][0] <= clock.idle_horizon(self._idle_after_ms)
            ):
                self.has_due = True
        return clock.now

    def add(
        self, visitor_id: str, click: Click, offset: int, user_id: str | None = None, crawler: bool = False
    ) -> Outcome:
        """Take one click in, at the arrival that `arrive` last set. `offset` is its place in the log."""
        clock, rules = self.clock, self.rules
        timestamp = click.timestamp
        if timestamp > clock.now + rules.max_future_ms:
            return Outcome.TOO_NEW
        if timestamp < rules.min_timestamp_ms:
            return Outcome.TOO_OLD
        id_hash = event_hash(click.event_id)
        windows = self._open.get(visitor_id)
        if windows is None:
            if timestamp + rules.gap_ms < clock.watermark:
                return _LATE
            session = open_session(visitor_id, click, id_hash, offset, clock.now)
            self._open[visitor_id] = [session]
            heappush(self._deadlines, (timestamp + rules.gap_ms, visitor_id))
        else:
            joined = self._join(windows, click, id_hash, offset)
            if isinstance(joined, Outcome):
                return joined
            session = joined
        if user_id is not None:
            session.note_user(click, user_id)
        if crawler:
            session.crawler = True
        self.changed.add(visitor_id)
        if click.event_type in rules.end_events:
            self._close_now(session, "explicit")
        self._raise_watermark(timestamp)
        if self._idle_after_ms and clock.now - clock.raised_at >= self._idle_after_ms:
            # Silence may have passed this window before the click came: then it closes with the click.
            self.has_due |= self._window_end(session) <= clock.idle_horizon(self._idle_after_ms)
        return _JOINED

    def close_due(self, limit: int) -> list[Session]:
        """At most `limit` sessions that the last record, or silence, has closed; in closing order.

        Call again while `has_due`. Any prefix is a valid state: a restored sessionizer goes on from there.
        """
        closed = [self._finish(window, reason, self.clock.now) for window, reason in self._closing[:limit]]
        del self._closing[:limit]
        while len(closed) < limit and (self._due or self._collect_due()):
            window = self._due.pop()
            self._detach(window)
            closed.append(self._finish(window, self._due_reason, self._closing_time(window)))
        self.has_due = len(closed) == limit
        return closed

    def drain(self) -> Iterator[Session]:
        """Close everything that is open, at the arrival clock, in order of (ended_at, session_id)."""
        windows = [window for windows in self._open.values() for window in windows]
        for window in reversed(self._in_closing_order(windows)):
            self._detach(window)
            yield self._finish(window, "drain", self.clock.now)

    # -- joining

    def _join(
        self, windows: list[OpenSession], click: Click, id_hash: bytes, offset: int
    ) -> OpenSession | Outcome:
        """Put the click into the visitor's windows: into one it touches, or between two, or on its own."""
        timestamp, gap = click.timestamp, self.rules.gap_ms
        touched = [w for w in windows if w.started_at - gap <= timestamp <= w.ended_at + gap]
        for window in touched:
            if window.holds(id_hash):
                return _DUPLICATE
        stands_alone = not touched or self._cap_hit(touched[-1], timestamp) is not None
        if stands_alone and timestamp + gap < self.clock.watermark:
            return _LATE
        if len(touched) == 2:
            earlier, later = touched
            reason = self._union_cap_hit(earlier, later)
            if reason is None:
                later.add(click, id_hash, offset, self.clock.now)
                self._merge(earlier, later)
                return later
            self._close_now(earlier, reason)
        if touched:
            window = touched[-1]
            reason = self._cap_hit(window, timestamp)
            if reason is None:
                window.add(click, id_hash, offset, self.clock.now)
                return window
            self._close_now(window, reason)
        return self._open_window(windows[0].visitor_id, click, id_hash, offset)

    def _open_window(self, visitor_id: str, click: Click, id_hash: bytes, offset: int) -> OpenSession:
        window = open_session(visitor_id, click, id_hash, offset, self.clock.now)
        windows = self._open.setdefault(visitor_id, [])
        windows.append(window)
        windows.sort(key=_start)
        heappush(self._deadlines, (self._window_end(window), visitor_id))
        return window

    def _merge(self, earlier: OpenSession, later: OpenSession) -> None:
        """Let `later` take `earlier` in. A dropped duplicate may bring the end forward."""
        self._detach(earlier)
        self.merged_duplicates += later.absorb(earlier)
        heappush(self._deadlines, (self._window_end(later), later.visitor_id))
        self.has_due |= self._window_end(later) < self.clock.watermark

    # -- caps and end events

    def _cap_hit(self, window: OpenSession, timestamp: int) -> CloseReason | None:
        """The cap that one more click at `timestamp` would exceed."""
        if window.event_count + 1 > self.rules.max_events:
            return "max_events"
        if max(window.ended_at, timestamp) - min(window.started_at, timestamp) > self.rules.max_duration_ms:
            return "max_duration"
        return None

    def _union_cap_hit(self, earlier: OpenSession, later: OpenSession) -> CloseReason | None:
        if earlier.event_count + later.event_count + 1 > self.rules.max_events:
            return "max_events"
        if later.ended_at - earlier.started_at > self.rules.max_duration_ms:
            return "max_duration"
        return None

    def _close_now(self, window: OpenSession, reason: CloseReason) -> None:
        self._detach(window)
        self._closing.append((window, reason))
        self.has_due = True

    # -- time

    def _raise_watermark(self, timestamp: int) -> None:
        clock = self.clock
        risen = min(timestamp, clock.now) - self.rules.out_of_orderness_ms
        if risen > clock.watermark:
            clock.watermark = risen
            clock.raised_at = clock.now
            if self._deadlines and self._deadlines[0][0] < risen:
                self.has_due = True

    def _window_end(self, window: OpenSession) -> int:
        return window.ended_at + self.rules.gap_ms

    def _collect_due(self) -> bool:
        """Find the windows that watermark or silence has passed; False if there is none."""
        clock = self.clock
        horizon, self._due_reason = clock.watermark - 1, "gap"
        if not self._reached(horizon) and self._idle_after_ms:
            horizon, self._due_reason = clock.idle_horizon(self._idle_after_ms), "idle"
        visitors = set()
        while self._reached(horizon):
            visitors.add(heappop(self._deadlines)[1])
        due: list[OpenSession] = []
        for visitor_id in visitors:
            windows = self._open.get(visitor_id, [])
            due += [window for window in windows if self._window_end(window) <= horizon]
            later = [end for window in windows if (end := self._window_end(window)) > horizon]
            if later:
                heappush(self._deadlines, (min(later), visitor_id))
        self._due = self._in_closing_order(due)
        return bool(due)

    def _reached(self, horizon: int) -> bool:
        return bool(self._deadlines) and self._deadlines[0][0] <= horizon

    def _closing_time(self, window: OpenSession) -> int:
        """Arrival time at which the window closed: computed, so that no timer's tick is in it."""
        closes_at = self.clock.raised_at
        if self._due_reason == "idle":
            closes_at = self.clock.idle_close_at(self._window_end(window), self._idle_after_ms)
        return max(closes_at, window.last_arrived_at)

    def _in_closing_order(self, windows: list[OpenSession]) -> list[OpenSession]:
        """Last to close first, so that `pop` gives the next. Ids are only worked out for ties."""
        windows.sort(key=_end)
        tied = {a.ended_at for a, b in pairwise(windows) if a.ended_at == b.ended_at}
        if tied:
            windows.sort(key=lambda w: (w.ended_at, self._session_id(w) if w.ended_at in tied else ""))
        windows.reverse()
        return windows

    # -- leaving

    def _detach(self, window: OpenSession) -> None:
        windows = self._open[window.visitor_id]
        if len(windows) == 1:
            del self._open[window.visitor_id]
        else:
            windows.remove(window)
        self.changed.add(window.visitor_id)

    def _session_id(self, window: OpenSession) -> str:
        return session_id(window.visitor_id, window.clicks()[0], self._rules_version)

    def _finish(self, window: OpenSession, reason: CloseReason, closed_at: int) -> Session:
        clicks = window.clicks()
        user = window.last_user
        return Session(
            session_id=session_id(window.visitor_id, clicks[0], self._rules_version),
            visitor_id=window.visitor_id,
            user_id=user.user_id if user else None,
            started_at=window.started_at,
            ended_at=window.ended_at,
            closed_at=closed_at,
            event_count=window.event_count,
            close_reason=reason,
            is_bot=window.crawler or window.clicks_at_bot_speed(),
            clicks=clicks,
        )


def session_id(visitor_id: str, first: Click, rules_version: str) -> str:
    """32 hex digits over visitor, start, event_id of the first click and rules version."""
    parts = (visitor_id, str(first.timestamp), first.event_id, rules_version)
    framed = b"".join(len(raw := part.encode()).to_bytes(4, "big") + raw for part in parts)
    return hashlib.blake2b(framed, digest_size=16).hexdigest()


def _start(window: OpenSession) -> int:
    return window.started_at


def _end(window: OpenSession) -> int:
    return window.ended_at
