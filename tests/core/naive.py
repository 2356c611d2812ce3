"""The rules of time and sessions once more, slow and plain: the whole state is looked at for every record.

Sessions are lists of all their clicks; nothing is packed, indexed or remembered between records. The
product's core has to do the same as this, to the last field and in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from streamer.core.rules import SessionRules
from streamer.core.session import session_id
from tests.core.partition import a_click

NEVER = -(1 << 62)


class Record(NamedTuple):
    """One click as it arrives, at its place in the log; `end` makes it an end event."""

    place: int
    visitor: str
    at: int
    event_id: str
    arrival: int
    end: bool = False
    user: str | None = None
    crawler: bool = False
    page: str | None = None
    dwell: int | None = None


class Told(NamedTuple):
    """What is no click and tells how long a page was read: until then, or for `dwell` more."""

    visitor: str
    at: int
    arrival: int
    page: str | None
    dwell: int | None


class Closed(NamedTuple):
    """Everything that a closed session says."""

    visitor: str
    started_at: int
    ended_at: int
    closed_at: int
    reason: str
    count: int
    is_bot: bool
    user: str | None
    kept: tuple[str, ...]
    session_id: str
    is_final: bool = True
    revision: int = 0
    supersedes: str | None = None
    dwells: tuple[int | None, ...] = ()


@dataclass
class _Remembered:
    """What is remembered of a visitor's sessions that closed before the watermark passed them."""

    event_ids: list[str] = field(default_factory=list)
    ended_at: int = NEVER


@dataclass
class _Window:
    visitor: str
    clicks: list[Record] = field(default_factory=list)
    repeated: list[Record] = field(default_factory=list)
    """Clicks that joined and that a merge then found to be there twice."""
    arrived_at: int = 0
    beside_closed: bool = False
    closed_by: str = ""
    """Why it has closed; it is held."""
    published: list[str] = field(default_factory=list)
    """Ids that no record has superseded."""
    revision: int = 0

    @property
    def is_cut(self) -> bool:
        return self.closed_by not in ("", "gap", "idle")

    @property
    def start(self) -> tuple[int, bool, int]:
        return min(self.times), not self.closed_by, min(click.place for click in self.clicks)

    @property
    def times(self) -> list[int]:
        return [click.at for click in self.clicks]

    @property
    def user(self) -> str | None:
        return next((click.user for click in self.clicks + self.repeated if click.user), None)

    @property
    def ids(self) -> list[str]:
        return [click.event_id for click in self.clicks]

    @property
    def ordered(self) -> list[Record]:
        return sorted(self.clicks, key=lambda click: (click.at, click.event_id))


class NaivePartition:
    """One partition. `closed`, in closing order, and `outcomes`, one per record, grow with every record."""

    def __init__(self, rules: SessionRules) -> None:
        self.rules = rules
        self.now, self.watermark, self.raised_at = 0, NEVER, 0
        self.merged_duplicates = 0
        self.open: list[_Window] = []
        self.held: list[_Window] = []
        self.closing: list[tuple[_Window, str]] = []
        """What a click closes at once."""
        self.remembered: dict[str, _Remembered] = {}
        self.closed: list[Closed] = []
        self.outcomes: list[str] = []
        self.dwells: dict[int, int | None] = {}
        """By the place of a click, how long its page was read."""

    def run(self, records: Iterable[Record | Told]) -> NaivePartition:
        """Take in all records, then close what is left."""
        for record in records:
            self.idle(record.arrival)
            if isinstance(record, Told):
                self._tell(record)
            else:
                self.dwells[record.place] = record.dwell
                self.outcomes.append(self._take(record))
        for window in self._in_order(self.open):
            self._close(window, "drain", self.now)
        return self

    def idle(self, now: int, visitor: str | None = None) -> None:
        """Nothing has come until `now`, by the arrival clock."""
        self.now = max(self.now, now)
        for window in self._in_order(self.open):
            if visitor not in (None, window.visitor):
                continue
            if self.rules.idle_after_ms and self._idle_at(window) <= self.now:
                self._close(window, "idle", max(self._idle_at(window), window.arrived_at))

    def _tell(self, told: Told) -> None:
        gap = self.rules.gap_ms
        if not self.rules.min_timestamp_ms <= told.at <= self.now + self.rules.max_future_ms:
            return
        read = [
            click
            for window in self.open
            if window.visitor == told.visitor
            and min(window.times) - gap <= told.at <= max(window.times) + gap
            for click in window.clicks
            if click.page == told.page and click.at <= told.at
        ]
        if read:
            last = max(read, key=lambda click: (click.at, click.event_id))
            known, elapsed = self.dwells[last.place], told.at - last.at
            longer = elapsed if told.dwell is None else min(elapsed, (known or 0) + told.dwell)
            if longer > (known or 0):
                self.dwells[last.place] = longer

    def _take(self, record: Record) -> str:
        rules, gap = self.rules, self.rules.gap_ms
        if record.at > self.now + rules.max_future_ms:
            return "too_new"
        if record.at < rules.min_timestamp_ms:
            return "too_old"
        near = [
            window
            for window in sorted([*self.open, *self.held], key=lambda window: window.start)
            if window.visitor == record.visitor
            and min(window.times) - gap <= record.at <= max(window.times) + gap
        ]
        known = self.remembered.get(record.visitor, _Remembered()).event_ids
        if any(record.event_id in window.ids for window in near) or record.event_id in known:
            return "duplicate"
        joined = self._join(self._neighbours(near, record), record)
        if joined is None:
            return "late"
        joined.arrived_at = self.now
        again = joined.closed_by
        joined.closed_by = ""
        if record.end or again not in ("", "gap", "idle"):
            self._close_now(joined, "explicit" if record.end else again)
        risen = min(record.at, self.now) - rules.out_of_orderness_ms
        if risen > self.watermark:
            self.watermark, self.raised_at = risen, self.now
            for visitor, known in list(self.remembered.items()):
                if known.ended_at + gap < self.watermark:
                    del self.remembered[visitor]
            self.held = [window for window in self.held if self._is_held(window)]
        closing, self.closing = self.closing, []
        for window, reason in closing:
            self._close_passed(window.visitor)
            self._close(window, reason, self.now)
        self._close_passed()
        return "joined"

    def _close_passed(self, visitor: str | None = None) -> None:
        """Close what the watermark or idleness has passed, of one visitor or of all."""
        for window in self._in_order(self.open):
            if visitor in (None, window.visitor) and self.watermark > max(window.times) + self.rules.gap_ms:
                self._close(window, "gap", self.now)
        self.idle(self.now, visitor)

    def _is_held(self, window: _Window) -> bool:
        return max(window.times) + self.rules.gap_ms + self.rules.revise_within_ms >= self.watermark

    def _neighbours(self, near: list[_Window], record: Record) -> list[_Window]:
        """Of the windows that a click touches, in order, those that it can join or keep apart."""
        if all(window.visitor != record.visitor for window in self.held):
            return near
        fit = [
            window
            for window in near
            if not window.is_cut
            or (
                record.at < max(window.times)
                and len({window.user, record.user} - {None}) < 2
                and not self._cap([*window.clicks, record])
            )
        ]
        before = [window for window in fit if min(window.times) <= record.at][-1:]
        after = [window for window in fit if min(window.times) > record.at][:1]
        return before if before and before[0].is_cut else before + after

    def _join(self, near: list[_Window], record: Record) -> _Window | None:
        """Where the click goes, with whatever a user or a cap closes on the way; None if it is late."""
        foreign = [window for window in near if record.user and window.user not in (None, record.user)]
        mine = [window for window in near if window not in foreign]
        target = mine[-1] if mine else None
        cap = self._cap([*target.clicks, record]) if target else None
        if record.at + self.rules.gap_ms < self.watermark - self.rules.revise_within_ms and (
            not target or cap or (target.beside_closed and record.at <= min(target.times))
        ):
            return None
        closing = [(window, "user_change") for window in foreign]
        if len(mine) == 2:
            earlier, later = mine
            if len({earlier.user, later.user} - {None}) == 2:
                closing.append((earlier, "user_change"))
            elif union_cap := self._cap([*earlier.clicks, *later.clicks, record]):
                closing.append((earlier, union_cap))
            else:
                (self.held if earlier.closed_by else self.open).remove(earlier)
                self._merge(earlier, later)
        if target and cap:
            closing.append((target, cap))
        for window, reason in sorted(closing, key=lambda each: min(each[0].times)):
            self._close_now(window, reason)
        if not target or cap:
            visitors = {*self.remembered, *(window.visitor for window in self.held)}
            target = _Window(record.visitor, [], beside_closed=record.visitor in visitors)
            self.open.append(target)
        elif target.closed_by:
            self.held.remove(target)
            self.open.append(target)
        target.clicks.append(record)
        return target

    def _merge(self, earlier: _Window, later: _Window) -> None:
        first: dict[str, Record] = {}
        later.beside_closed |= earlier.beside_closed
        later.repeated += earlier.repeated
        later.published += earlier.published
        later.revision = max(later.revision, earlier.revision)
        for click in sorted(earlier.clicks + later.clicks, key=lambda click: click.place):
            if first.setdefault(click.event_id, click) is not click:
                later.repeated.append(click)
                self.merged_duplicates += 1
        later.clicks = list(first.values())

    def _cap(self, clicks: list[Record]) -> str | None:
        if len(clicks) > self.rules.max_events:
            return "max_events"
        times = [click.at for click in clicks]
        return "max_duration" if max(times) - min(times) > self.rules.max_duration_ms else None

    def _idle_at(self, window: _Window) -> int:
        end = max(window.times) + self.rules.gap_ms
        return self.raised_at + self.rules.idle_after_ms + end - self.watermark

    def _in_order(self, windows: list[_Window]) -> list[_Window]:
        return sorted(windows, key=lambda window: (max(window.times), self._id(window)))

    def _id(self, window: _Window) -> str:
        first = window.ordered[0]
        return session_id(window.visitor, a_click(first.at, first.event_id), self.rules.version)

    def _close_now(self, window: _Window, reason: str) -> None:
        """At this click; one that has closed before ends there for good."""
        if window.closed_by:
            window.closed_by = reason
            return
        self.open.remove(window)
        self._remember(window)
        self.closing.append((window, reason))

    def _remember(self, window: _Window) -> None:
        if not self.rules.revise_within_ms and max(window.times) + self.rules.gap_ms >= self.watermark:
            known = self.remembered.setdefault(window.visitor, _Remembered())
            known.event_ids += window.ids
            known.ended_at = max(known.ended_at, *window.times)
            for other in self.open:
                other.beside_closed |= other.visitor == window.visitor

    def _close(self, window: _Window, reason: str, closed_at: int) -> None:
        if window in self.open:
            self.open.remove(window)
            self._remember(window)
        if not self.rules.revise_within_ms:
            self._publish(window, reason, closed_at)
            return
        self._publish(window, reason, closed_at)
        while len(window.published) > 1:
            self._publish(window, reason, closed_at)
        published = [
            each
            for each in [*self.open, *self.held]
            if each.visitor == window.visitor and each.published and min(each.times) > min(window.times)
        ]
        if published:
            latest = max(published, key=lambda each: each.start)
            self._publish(latest, latest.closed_by or "open", closed_at)
        for other in self.open:
            other.beside_closed |= other.visitor == window.visitor
        window.closed_by = "gap" if reason == "drain" else reason
        if self._is_held(window):
            self.held.append(window)

    def _publish(self, window: _Window, reason: str, closed_at: int) -> None:
        own_id = self._id(window)
        others = [each for each in window.published if each != own_id]
        ordered = window.ordered
        ids = [click.event_id for click in ordered]
        dwells = [self.dwells[click.place] for click in ordered]
        times = sorted(window.times)
        everything = sorted(window.clicks + window.repeated, key=lambda click: (click.at, click.event_id))
        self.closed.append(
            Closed(
                window.visitor,
                times[0],
                times[-1],
                closed_at,
                reason,
                len(ids),
                any(click.crawler for click in everything)
                or any(times[i + 99] - times[i] <= 100_000 for i in range(len(times) - 99)),
                window.user,
                tuple(ids if len(ids) <= 64 else ids[:16] + ids[-48:]),
                own_id,
                reason != "open",
                window.revision,
                others[0] if others else None,
                tuple(dwells if len(dwells) <= 64 else dwells[:16] + dwells[-48:]),
            )
        )
        window.published = [own_id, *others[1:]]
        window.revision += 1
