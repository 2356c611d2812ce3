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
        self.remembered: dict[str, _Remembered] = {}
        self.closed: list[Closed] = []
        self.outcomes: list[str] = []

    def run(self, records: Iterable[Record]) -> NaivePartition:
        """Take in all records, then close what is left."""
        for record in records:
            self.idle(record.arrival)
            begin = len(self.closed)
            self.outcomes.append(self._take(record))
            self.closed[begin:] = _in_visitors_order(self.closed[begin:])
        for window in self._in_order(self.open):
            self._close(window, "drain", self.now)
        return self

    def idle(self, now: int) -> None:
        """Nothing has come until `now`, by the arrival clock."""
        self.now = max(self.now, now)
        for window in self._in_order(self.open):
            if self.rules.idle_after_ms and self._idle_at(window) <= self.now:
                self._close(window, "idle", max(self._idle_at(window), window.arrived_at))

    def _take(self, record: Record) -> str:
        rules, gap = self.rules, self.rules.gap_ms
        if record.at > self.now + rules.max_future_ms:
            return "too_new"
        if record.at < rules.min_timestamp_ms:
            return "too_old"
        near = [
            window
            for window in sorted(self.open, key=lambda window: min(window.times))
            if window.visitor == record.visitor
            and min(window.times) - gap <= record.at <= max(window.times) + gap
        ]
        known = self.remembered.get(record.visitor, _Remembered()).event_ids
        if any(record.event_id in window.ids for window in near) or record.event_id in known:
            return "duplicate"
        joined = self._join(near, record)
        if joined is None:
            return "late"
        joined.arrived_at = self.now
        if record.end:
            self._close(joined, "explicit", self.now)
        risen = min(record.at, self.now) - rules.out_of_orderness_ms
        if risen > self.watermark:
            self.watermark, self.raised_at = risen, self.now
            for visitor, known in list(self.remembered.items()):
                if known.ended_at + gap < self.watermark:
                    del self.remembered[visitor]
        for window in self._in_order(self.open):
            if self.watermark > max(window.times) + gap:
                self._close(window, "gap", self.now)
        self.idle(self.now)
        return "joined"

    def _join(self, near: list[_Window], record: Record) -> _Window | None:
        """Where the click goes, with whatever a user or a cap closes on the way; None if it is late."""
        foreign = [window for window in near if record.user and window.user not in (None, record.user)]
        mine = [window for window in near if window not in foreign]
        target = mine[-1] if mine else None
        cap = self._cap([*target.clicks, record]) if target else None
        if record.at + self.rules.gap_ms < self.watermark and (
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
                self.open.remove(earlier)
                self._merge(earlier, later)
        if target and cap:
            closing.append((target, cap))
        for window, reason in sorted(closing, key=lambda each: min(each[0].times)):
            self._close(window, reason, self.now)
        if not target or cap:
            target = _Window(record.visitor, [], beside_closed=record.visitor in self.remembered)
            self.open.append(target)
        target.clicks.append(record)
        return target

    def _merge(self, earlier: _Window, later: _Window) -> None:
        first: dict[str, Record] = {}
        later.beside_closed |= earlier.beside_closed
        later.repeated += earlier.repeated
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

    def _close(self, window: _Window, reason: str, closed_at: int) -> None:
        self.open.remove(window)
        if max(window.times) + self.rules.gap_ms >= self.watermark:
            known = self.remembered.setdefault(window.visitor, _Remembered())
            known.event_ids += window.ids
            known.ended_at = max(known.ended_at, *window.times)
            for other in self.open:
                other.beside_closed |= other.visitor == window.visitor
        ordered = window.ordered
        ids = [click.event_id for click in ordered]
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
            )
        )


def _in_visitors_order(closed: list[Closed]) -> list[Closed]:
    """What one record closed: before what it closes at once, what has come due of the same visitor."""
    at_once = [each for each in closed if each.reason not in ("gap", "idle")]
    due = [each for each in closed if each not in at_once]
    ordered: list[Closed] = []
    for each in at_once:
        ordered += [other for other in due if other.visitor == each.visitor]
        due = [other for other in due if other.visitor != each.visitor]
        ordered.append(each)
    return ordered + due
