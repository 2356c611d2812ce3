"""Session windows of one partition: clicks and arrival times in, closed sessions out.

Here are the inactivity gap (`_touches`), how the watermark rises (`_advance`), which click is late
(`_place`), what an end event does (`add`), merging, caps and closing.

Arrival time never goes back. Per record first the clock, then duplicates, join or merge, users and caps,
watermark, closing. A window has one user at most; it closes when the watermark is beyond its end, in order of
(ended_at, session_id). Idleness closes windows and never moves the watermark. The clicks of a window that
closes before stay known until the watermark is beyond its end. The caller hands in records one by one and
takes sessions with `close_due` before the next one, so a result never depends on batches.

With `revise_within_ms`, windows that have closed are held, and a click that comes late is placed among them
as among open ones: the window that it joins is open again, and closes anew with another revision, at once if
the watermark has passed it. One that an end event, a user or a cap has closed takes only clicks from before
its end, and closes anew at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise

from streamer.core.closed import ClosedSessions
from streamer.core.held import HeldSessions
from streamer.core.rules import SessionRules
from streamer.core.session import OpenSession, event_hash, open_session
from streamer.core.store import OpenWindows
from streamer.core.timers import Deadlines
from streamer.core.watermark import PartitionClock
from streamer.native.click_codec import entries
from streamer.schemas.click import Click, CloseReason, Session


class Outcome(Enum):
    """Where a click ended."""

    JOINED = "joined"
    LATE = "late"
    DUPLICATE = "duplicate"
    TOO_NEW = "event_time_in_future"
    TOO_OLD = "event_time_before_min"


_JOINED, _LATE, _DUPLICATE = Outcome.JOINED, Outcome.LATE, Outcome.DUPLICATE
_TOO_NEW, _TOO_OLD = Outcome.TOO_NEW, Outcome.TOO_OLD
_NEVER_IDLE = 1 << 62


class Sessionizer:
    """State and step of one partition. `idle_closing` is off where arrival time is not the broker's.

    `early_every_ms`: how often after its first arrival an open session that has got a click since is given
    out provisionally; 0: never. `at_login`: whether it is at its first click with a `user_id`, too. Neither
    has an influence on the sessions themselves.
    """

    def __init__(
        self,
        rules: SessionRules,
        *,
        idle_closing: bool = True,
        early_every_ms: int = 0,
        at_login: bool = False,
        clock: PartitionClock | None = None,
        sessions: Iterable[OpenSession] = (),
    ) -> None:
        """`sessions`: what `stored_sessions` gave, in any order."""
        self.rules = rules
        self.clock = clock or PartitionClock()
        self._changed: dict[str, OpenSession | None] = {}
        """Visitors with changes; their only session where it is known without a look."""
        self._period = 1
        """Number of the time since `take_changed`; the visitor of a window that has it is in `_changed`."""
        self.merged_duplicates = 0
        """Clicks that a merge found to be duplicates: they were counted as joined before."""
        self.revised = 0
        """Final records given so far whose place another takes, or will take."""
        self.revised_clicks = 0
        """Clicks in these."""
        self.has_due = False
        """Whether `close_due` has work; no further record may be handed in until it has none."""
        self._take_rules(rules, idle_closing)
        self._open = OpenWindows()
        self._single = self._open.single
        self._several = self._open.several
        self._closed = ClosedSessions(rules.gap_ms, rules.max_events)
        self._closed_of = self._closed.of
        self._closed_ends = self._closed.ends
        self._held = HeldSessions(rules.gap_ms + rules.revise_within_ms, rules.max_events)
        self._held_of = self._held.of
        self._held_ends = self._held.ends
        self._closes_again: CloseReason | None = None
        """Why the window closes at once that the click has opened again."""
        for session in sessions:
            self._restore(session)
        self._deadlines = Deadlines()
        self._early_every_ms, self._at_login = early_every_ms, at_login
        self._early = Deadlines()
        self.logins: list[Session] = []
        """Provisional records of sessions that have just got their user; whoever takes them empties it."""
        for window in self._open:
            self._deadlines.note(window.visitor_id, window.ended_at + self._gap_ms)
            if window.early_at:
                self._early.note(window.visitor_id, window.early_at)
        self._closing: list[tuple[OpenSession, CloseReason]] = []
        self._due: list[OpenSession] = []
        self._due_reason: CloseReason = "gap"
        self._find_due()

    def _take_rules(self, rules: SessionRules, idle_closing: bool) -> None:
        self._rules_version = rules.version
        self._gap_ms = rules.gap_ms
        self._max_duration_ms = rules.max_duration_ms
        self._max_events = rules.max_events
        self._end_events = rules.end_events
        self._out_of_orderness_ms = rules.out_of_orderness_ms
        self._max_future_ms = rules.max_future_ms
        self._min_timestamp_ms = rules.min_timestamp_ms
        self._idle_after_ms = rules.idle_after_ms if idle_closing and rules.idle_after_ms else _NEVER_IDLE
        self._revise_within_ms = rules.revise_within_ms

    def open_sessions(self, visitor_id: str) -> list[OpenSession]:
        """A visitor's open sessions by start; empty if there is none."""
        return self._open.of(visitor_id)

    def sessions_of(self, visitors: Mapping[str, OpenSession | None]) -> list[OpenSession]:
        """What is to be stored of these visitors, each one's together: open sessions by start, then what is
        held or remembered of closed ones.

        Where a visitor comes with a session, that is all there is.
        """
        windows: list[OpenSession] = []
        single, several, closed_of, held_of = self._single, self._several, self._closed_of, self._held_of
        for visitor_id, known in visitors.items():
            only = known or single.get(visitor_id)
            if only is None:
                windows += several.get(visitor_id, ())
            else:
                windows.append(only)
            if known is None:
                if (closed := closed_of.get(visitor_id)) is not None:
                    windows.append(closed)
                windows += held_of.get(visitor_id, ())
        return windows

    def stored_sessions(self) -> list[OpenSession]:
        """Everything that is to be stored, for `sessions` of the next one."""
        return [*self._open, *self._closed_of.values(), *self._held.windows()]

    def visitors(self) -> Iterator[str]:
        """Every visitor with an open session."""
        return self._open.visitors()

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def held_count(self) -> int:
        """Closed sessions that a click may revise."""
        return self._held.count

    @property
    def changed_count(self) -> int:
        """How many visitors' sessions changed since `take_changed`."""
        return len(self._changed)

    def forget_changes(self) -> None:
        """As if nothing had changed: for callers that store no state."""
        self._changed.clear()
        self._period += 1

    def take_changed(self) -> tuple[dict[str, OpenSession | None], list[str]]:
        """Visitors whose sessions changed since the last time: those of whom there is anything to store, for
        `sessions_of`, and those of whom there is nothing any more."""
        changed, self._changed = self._changed, {}
        self._period += 1
        single, several, closed_of = self._single, self._several, self._closed_of
        gone = [
            visitor_id
            for visitor_id, window in changed.items()
            if window is None
            and visitor_id not in single
            and visitor_id not in several
            and visitor_id not in closed_of
            and visitor_id not in self._held_of
        ]
        for visitor_id in gone:
            del changed[visitor_id]
        return changed, gone

    @property
    def open_events(self) -> int:
        """Clicks in open sessions."""
        return sum(session.event_count for session in self._open)

    def arrive(self, arrival_ms: int) -> int:
        """Move the arrival clock to a record's arrival, or to a moment of idleness; returns the clock."""
        clock = self.clock
        if arrival_ms > clock.now:
            clock.now = arrival_ms
            if arrival_ms - clock.raised_at >= self._idle_after_ms:
                self._find_due()
        return clock.now

    def add(
        self, visitor_id: str, click: Click, offset: int, user_id: str | None = None, crawler: bool = False
    ) -> Outcome:
        """Take one click in, at the arrival that `arrive` last set. `offset` is its place in the log."""
        timestamp = click.timestamp
        refusal = self._refusal(timestamp)
        if refusal is not None:
            return refusal
        placed = self._place(visitor_id, click, event_hash(click.event_id), offset, user_id)
        if not isinstance(placed, OpenSession):
            return placed
        window = placed
        self._note_change(window)
        if self._early_every_ms and not window.early_at:
            self._early.note(visitor_id, window.schedule_early(self.clock.now, self._early_every_ms))
        if crawler:
            window.crawler = True
        if user_id is not None:
            is_login = window.user_id is None
            window.user_id = user_id
            if is_login and self._at_login:
                window.early_at = self.clock.now
                self.logins.append(window.provisional(self._rules_version))
        if click.event_type in self._end_events:
            self._close_now(window, "explicit")
        elif self._closes_again is not None:
            self._close_now(window, self._closes_again)
        self._closes_again = None
        self._advance(timestamp)
        return _JOINED

    def tell_dwell(self, visitor_id: str, told: Click) -> None:
        """Take in what tells how long a page was read, and is no click: see `OpenSession.tell_dwell`.

        It counts in an open session within a gap of it, and only there: no window grows, no time moves.
        """
        at = told.timestamp
        if self._refusal(at) is None:
            for window in reversed(self._open.of(visitor_id)):
                if self._touches(window, at) and window.tell_dwell(told):
                    self._note_change(window)
                    break

    def next_early(self) -> int:
        """Arrival time before which no provisional record is due. Stop the arrival clock there, if it gets
        so far: close what is due by then, and call `take_early`."""
        return self._early.first

    def take_early(self) -> list[Session]:
        """Provisional records due by the arrival clock, in order of (when due, session_id)."""
        due: list[OpenSession] = []
        now = self.clock.now
        for visitor_id in self._early.take(now):
            for window in self._open.of(visitor_id):
                if 0 < window.early_at <= now:
                    due.append(window)
                    self._changed[window.visitor_id] = None
                elif window.early_at:
                    self._early.note(visitor_id, window.early_at)
        records = [window.provisional(self._rules_version) for window in due]
        return sorted(records, key=_record_order)

    def pass_over(self, timestamp: int) -> None:
        """Move the watermark as a click of this event time would that is not taken in."""
        if self._refusal(timestamp) is None:
            self._advance(timestamp)

    def forget(self, visitor_id: str, until_ms: int) -> int:
        """Drop a visitor's sessions that have a click which arrived by `until_ms`; returns their clicks.

        What is kept of such a session that has closed goes too, and does not count here: its clicks are
        counted as closed.
        """
        gone = [w for w in self._open.of(visitor_id) if w.opened_at <= until_ms]
        gone += [w for w, _ in self._closing if w.visitor_id == visitor_id and w.opened_at <= until_ms]
        self._due = [w for w in self._due if w not in gone]
        self._closing = [(w, reason) for w, reason in self._closing if w not in gone]
        for window in self._open.of(visitor_id):
            if window in gone:
                self._detach(window)
        closed = self._closed_of.get(visitor_id)
        if closed is not None and closed.opened_at <= until_ms:
            self._closed.forget(visitor_id)
            self._changed[visitor_id] = None
        if self._held.forget(visitor_id, until_ms):
            self._changed[visitor_id] = None
        return sum(window.event_count for window in gone)

    def forget_closed(self, visitor_id: str, records: list[Session]) -> list[Session]:
        """Hold none of a visitor's sessions of which these are records; returns those final ones among them
        that don't count, for another takes their place."""
        opened = [*self._open.of(visitor_id), *(window for window, _ in self._closing)]
        replaced = {session_id for window in opened for session_id in window.published.split()}
        surpassed: list[Session] = []
        for record in reversed([record for record in records if record.is_final]):
            if record.session_id in replaced:
                surpassed.append(record)
            replaced.update((record.session_id, record.supersedes or record.session_id))
        ids = {record.session_id for record in records}
        for window in [w for w in self._held_of.get(visitor_id, ()) if w.published in ids]:
            self._held.release(window)
            self._changed[visitor_id] = None
        return surpassed

    def close_due(self, limit: int) -> list[Session]:
        """Sessions that the last record, or idleness, has closed, in closing order.

        At most `limit`, except that what one click closes by users, caps and end events (up to three) comes
        at once, after what is due of the same visitor; and so do all records of a revision. Call again while
        `has_due`. Any prefix is a valid state: a restored sessionizer goes on there.
        """
        closed: list[Session] = []
        for window, reason in self._closing:
            # A visitor's sessions come in their order, so that the last one published is the latest.
            for due in self._due[::-1]:
                if due.visitor_id == window.visitor_id:
                    closed += self._close(due)
            self._due = [w for w in self._due if w.visitor_id != window.visitor_id]
            closed += self._records(window, reason, self.clock.now)
        self._closing.clear()
        if not self._due:
            self._find_due()
        while self._due and len(closed) < limit:
            closed += self._close(self._due.pop())
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
            self._remember(window)
            yield from self._records(window, "drain", self.clock.now)

    # -- joining

    def _refusal(self, timestamp: int) -> Outcome | None:
        """Why a click of this event time belongs in no session, whatever else is open."""
        now = self.clock.now
        if timestamp > now and timestamp - now > self._max_future_ms:
            return _TOO_NEW
        return _TOO_OLD if timestamp < self._min_timestamp_ms else None

    # One function: the checks share the windows that the click touches, and every click comes this way.
    def _place(  # noqa: C901, PLR0912, see above
        self, visitor_id: str, click: Click, id_hash: bytes, offset: int, user_id: str | None
    ) -> OpenSession | Outcome:
        """Put the click into the visitor's windows: into one that it touches, between two, or on its own.

        Windows of another user that it touches close. Where two stay that can't be one, the earlier closes.
        """
        timestamp = click.timestamp
        foreign = None
        earlier, window = None, self._single.get(visitor_id)
        if window is not None:
            if not self._touches(window, timestamp):
                window = None
        elif self._several:
            for each in self._several.get(visitor_id, ()):
                if self._touches(each, timestamp):
                    earlier, window = window, each
        if self._held_of and visitor_id in self._held_of:
            if self._holds(visitor_id, id_hash, timestamp):
                return _DUPLICATE
            earlier, window = self._neighbours(visitor_id, timestamp, user_id)
        cap: CloseReason | None = None
        if self._is_duplicate(visitor_id, id_hash, earlier, window):
            return _DUPLICATE
        if window is not None:
            if earlier is not None and _differ(window.user_id, user_id):
                foreign, window, earlier = window, earlier, None
            cap = (
                "user_change"
                if _differ(window.user_id, user_id)
                else self._cap_hit(window, window, timestamp)
            )
        if timestamp + self._gap_ms < self.clock.watermark - self._revise_within_ms and (
            window is None or cap is not None or (window.beside_closed and timestamp <= window.started_at)
        ):
            return _LATE
        if window is not None and earlier is not None:
            union_cap = self._cap_hit(earlier, window, timestamp)
            if _differ(earlier.user_id, user_id or window.user_id):
                union_cap = "user_change"
            if union_cap is not None:
                self._close_now(earlier, union_cap)
                earlier = None
        if window is not None and cap is not None:
            self._close_now(window, cap)
            window = None
        if foreign is not None:
            self._close_now(foreign, "user_change")
        if window is None:
            return self._start(visitor_id, click, id_hash, offset)
        if window.closed_by:
            self._open_again(window)
        window.add(click, id_hash, offset)
        if earlier is not None:
            self._merge(earlier, window)
        return window

    def _neighbours(
        self, visitor_id: str, timestamp: int, user_id: str | None
    ) -> tuple[OpenSession | None, OpenSession | None]:
        """As `_place` needs them, the windows that a click touches if some are held: the last one to start by
        then, and the next one unless the other ends for good before it."""
        before = after = None
        windows = [*self._open.of(visitor_id), *self._held_of[visitor_id]]
        for each in sorted(windows, key=_start_order):
            if not self._touches(each, timestamp) or (
                each.is_cut
                and (
                    timestamp >= each.ended_at
                    or _differ(each.user_id, user_id)
                    or self._cap_hit(each, each, timestamp) is not None
                )
            ):
                continue
            if each.started_at <= timestamp:
                before = each
            elif after is None:
                after = each
        if before is not None and (after is None or before.is_cut):
            return None, before
        return before, after

    def _holds(self, visitor_id: str, id_hash: bytes, timestamp: int) -> bool:
        """Whether an open or a held session within a gap of the click has its event_id."""
        windows = [*self._open.of(visitor_id), *self._held_of[visitor_id]]
        return any(self._touches(each, timestamp) and each.holds(id_hash) for each in windows)

    def _open_again(self, window: OpenSession) -> None:
        """A held window gets a click: it is open, for now at least."""
        self._let_go(window)
        if window.is_cut:
            self._closes_again = window.closed_by or None
        window.closed_by = ""
        window.late_at = self.clock.now
        self._open.insert(window)
        self._deadlines.note(window.visitor_id, window.ended_at + self._gap_ms)

    def _let_go(self, window: OpenSession) -> None:
        """A held window becomes another, or a part of one."""
        self._held.release(window)
        self._count_revised(window, 1)

    def _count_revised(self, window: OpenSession, records: int) -> None:
        self.revised += records
        self.revised_clicks += records * window.event_count

    def _note_change(self, window: OpenSession) -> None:
        """An open window isn't as it was stored."""
        if window.changed_in != self._period:
            window.changed_in = self._period
            visitor_id = window.visitor_id
            is_alone = not (
                window.beside_closed or visitor_id in self._several or visitor_id in self._held_of
            )
            self._changed[visitor_id] = window if is_alone else None

    def _is_duplicate(
        self, visitor_id: str, id_hash: bytes, earlier: OpenSession | None, window: OpenSession | None
    ) -> bool:
        """Whether the windows that a click touches have its event_id, or a session that closed early."""
        if window is None:
            return bool(self._closed_of) and self._has_closed(visitor_id, id_hash)
        if window.holds(id_hash) or (earlier is not None and earlier.holds(id_hash)):
            return True
        return window.beside_closed and self._has_closed(visitor_id, id_hash)

    def _has_closed(self, visitor_id: str, id_hash: bytes) -> bool:
        """Whether a session of the visitor that closed early had a click with this event_id hash."""
        closed = self._closed_of.get(visitor_id)
        return closed is not None and closed.holds(id_hash)

    def _touches(self, window: OpenSession, timestamp: int) -> bool:
        return window.started_at - self._gap_ms <= timestamp <= window.ended_at + self._gap_ms

    def _start(self, visitor_id: str, click: Click, id_hash: bytes, offset: int) -> OpenSession:
        window = open_session(visitor_id, click, id_hash, offset, self.clock.now)
        window.beside_closed = visitor_id in self._closed_of or visitor_id in self._held_of
        if click.timestamp + self._gap_ms < self.clock.watermark:
            window.late_at = self.clock.now
        self._open.insert(window)
        self._deadlines.note(visitor_id, click.timestamp + self._gap_ms)
        return window

    def _merge(self, earlier: OpenSession, later: OpenSession) -> None:
        """Join two windows, of which the later one has just got the click that touches both."""
        if earlier.closed_by:
            self._let_go(earlier)
        else:
            self._detach(earlier)
        self.merged_duplicates += later.absorb(earlier)
        if earlier.closed_by:  # its own deadline is gone
            later.late_at = self.clock.now
            self._deadlines.note(later.visitor_id, later.ended_at + self._gap_ms)
        later.early_at = 0  # it counts from another first arrival now
        # The earlier one's deadline stands for both. A dropped duplicate may bring the end forward, but not
        # to before the click, which comes after that deadline's window.

    # -- caps and end events

    def _cap_hit(self, earlier: OpenSession, later: OpenSession, timestamp: int) -> CloseReason | None:
        """The cap that two windows, or only one, would exceed with one more click at `timestamp`."""
        events = later.event_count if earlier is later else earlier.event_count + later.event_count
        if events + 1 > self._max_events:
            return "max_events"
        if max(later.ended_at, timestamp) - min(earlier.started_at, timestamp) > self._max_duration_ms:
            return "max_duration"
        return None

    def _close_now(self, window: OpenSession, reason: CloseReason) -> None:
        """Of a held window only note that it ends there for good."""
        if window.closed_by:
            window.closed_by = reason
            self._changed[window.visitor_id] = None
        else:
            self._detach(window)
            self._remember(window)
            self._closing.append((window, reason))
            self.has_due = True

    def _remember(self, window: OpenSession) -> None:
        """Keep the ids of a window that closes, unless the watermark has passed it, or it is held."""
        if (
            not self._revise_within_ms
            and window.ended_at + self._gap_ms >= self.clock.watermark
            and self._closed.remember(window)
        ):
            for other in self._open.of(window.visitor_id):
                other.beside_closed = True

    # -- time

    def _advance(self, timestamp: int) -> None:
        """Raise the watermark by a click of this event time, which may be on a clock that runs ahead."""
        clock = self.clock
        risen = min(timestamp, clock.now) - self._out_of_orderness_ms
        if risen > clock.watermark:
            clock.watermark = risen
            clock.raised_at = clock.now
            if risen > self._closed_ends.first:
                self._changed.update(dict.fromkeys(self._closed.forget_passed(risen)))
            if risen > self._held_ends.first:
                self._changed.update(dict.fromkeys(self._held.forget_passed(risen)))
            if risen > self._deadlines.first:
                self._find_due()
        elif clock.now - clock.raised_at >= self._idle_after_ms or self._deadlines.first < clock.watermark:
            # Idleness, or the watermark, may have passed a window before the click that opens it came.
            self._find_due()

    def _find_due(self) -> None:
        """Find the windows that the watermark has passed or else idleness; none may be waiting before."""
        self._leave_due(self._ending_by(self.clock.watermark - 1), "gap")
        if not self._due:
            self._leave_due(self._ending_by(self.clock.idle_horizon(self._idle_after_ms)), "idle")

    def _leave_due(self, windows: list[OpenSession], reason: CloseReason) -> None:
        """For `close_due`, last to close first."""
        self._due, self._due_reason = windows, reason
        if windows:
            self.has_due = True

    def _ending_by(self, horizon: int) -> list[OpenSession]:
        """Windows that end at or before `horizon`, last to close first; taken out of the deadlines."""
        ending: list[OpenSession] = []
        if horizon < self._deadlines.first:
            return ending
        for visitor_id in self._deadlines.take(horizon):
            for window in self._open.of(visitor_id):
                window_end = window.ended_at + self._gap_ms
                if window_end > horizon:
                    self._deadlines.note(visitor_id, window_end)
                    break
                ending.append(window)
        return self._in_closing_order(ending)

    def _closing_time(self, window: OpenSession) -> int:
        """Arrival time at which the window closed: computed, so that no timer's tick is in it."""
        if self._due_reason == "gap":
            return max(self.clock.raised_at, window.late_at)
        closes_at = self.clock.idle_close_at(window.ended_at + self._gap_ms, self._idle_after_ms)
        return max(closes_at, window.opened_at, window.late_at)

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

    def _close(self, window: OpenSession) -> list[Session]:
        """Close a window that is due."""
        self._detach(window)
        self._remember(window)
        return self._records(window, self._due_reason, self._closing_time(window))

    def _records(self, window: OpenSession, reason: CloseReason, closed_at: int) -> list[Session]:
        """What a window becomes that has just closed; from here on it is held, if windows are."""
        if not self._revise_within_ms:
            return [window.close(reason, closed_at, self._rules_version)]
        records = window.finals(reason, closed_at, self._rules_version)
        self._count_revised(window, len(records) - 1)
        latest = self._latest_after(window)
        if latest is not None:
            records += self._again(latest, closed_at)
        window.closed_by = "gap" if reason == "drain" else reason
        for other in self._open.of(window.visitor_id):
            other.beside_closed = True
        self._held.hold(window, self.clock.watermark)
        return records

    def _latest_after(self, window: OpenSession) -> OpenSession | None:
        """The visitor's latest session that has been published, if it starts later."""
        visitor_id, latest = window.visitor_id, window
        for each in [*self._held_of.get(visitor_id, ()), *self._open.of(visitor_id)]:
            if each.published and _start_order(each) > _start_order(latest):
                latest = each
        return latest if latest.started_at > window.started_at else None

    def _again(self, latest: OpenSession, now: int) -> list[Session]:
        """The latest session once more, as it is, so that it stays the latest of the visitor beside one that
        closes after it."""
        self._changed[latest.visitor_id] = None
        if not latest.closed_by:
            latest.early_at = now
            return [latest.provisional(self._rules_version)]
        records = latest.finals(latest.closed_by, now, self._rules_version)
        self._count_revised(latest, len(records))
        return records

    def _restore(self, session: OpenSession) -> None:
        """Put in what another one had; what it held needn't be held under these rules."""
        session.changed_in = 0
        if session.is_open:
            self._open.insert(session)
        elif not session.is_held:
            self._closed.restore(session)
        elif not self._revise_within_ms:
            self._changed[session.visitor_id] = None
            self._remember(session)
        elif not self._held.hold(session, self.clock.watermark):
            self._changed[session.visitor_id] = None

    def _detach(self, window: OpenSession) -> None:
        self._open.remove(window)
        self._changed[window.visitor_id] = None


def _differ(a: str | None, b: str | None) -> bool:
    """Whether these are two users; None is anybody."""
    return a is not None and b is not None and a != b


def _end(window: OpenSession) -> int:
    return window.ended_at


def _start_order(window: OpenSession) -> tuple[int, bool, int]:
    """By start; of those that start together the open ones last, then those that came last."""
    return window.started_at, not window.closed_by, next(iter(entries(window.log)))[2]


def _record_order(record: Session) -> tuple[int, str]:
    return record.closed_at, record.session_id
