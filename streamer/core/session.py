"""An open session: packed bytes that grow by a click or by a merge.

Of every click three numbers are logged (event_id hash, event time, offset); the fields of the first
HEAD_CLICKS and the last TAIL_CLICKS are retained. Both are byte strings, so a million open sessions cost the
garbage collector nothing and go to the changelog as they are.
"""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import Any, Literal, Self

import msgspec
from msgspec.structs import astuple
from xxhash import xxh3_64_digest

from streamer.native.click_codec import PackedClicks, entries, pack_click, pack_entry
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, TAIL_CLICKS, Click, CloseReason, Session

BOT_CLICKS = 100
BOT_SPAN_MS = 100_000
"""A session with BOT_CLICKS clicks within BOT_SPAN_MS of event time is flagged as a bot's."""

COMPACT_AT = 2 * KEPT_CLICKS
"""Retained clicks at which those in the middle are let go."""


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What `to_row` gives. Of a Struct msgspec keeps what it has found out about the types."""

    visitor_id: str
    started_at: int
    ended_at: int
    opened_at: int
    log: bytes
    retained: bytes
    dropped: int
    crawler: bool
    user: str | tuple[int, str, str] | None
    early_at: int
    revision: int
    published: tuple[str, ...]
    beside_closed: bool
    closed_by: CloseReason | Literal[""]
    late_at: int


_ADDED = (0, 0, (), False, "", 0)
"""What rows may lack at their end: all of it in state version 1, the last three in versions 2 and 3, the last
two where no session is held."""
_SHORTER_ROWS = (9, 12, 13)
TIMED_OUT = frozenset({"gap", "idle", "drain"})
"""Reasons that say nothing about where a session ends but that no click came."""


def event_hash(event_id: str) -> bytes:
    """Eight bytes that stand for an event_id within one session."""
    return xxh3_64_digest(event_id.encode())


click_order = attrgetter("timestamp", "event_id")
"""Sort key: the order of clicks within a session."""


class OpenSession(PackedClicks):
    """A session that can still grow: open, or held. `started_at`, `ended_at` are inclusive event times in ms.

    `opened_at` is the arrival time of its first click to arrive. `log` has an entry for each click, in log
    order; `retained` the clicks themselves, but those `dropped`, in no order until it is read.
    """

    __slots__ = (
        "beside_closed",
        "changed_in",
        "closed_by",
        "crawler",
        "dropped",
        "early_at",
        "ended_at",
        "late_at",
        "opened_at",
        "published",
        "revision",
        "started_at",
        "user_id",
        "visitor_id",
    )

    def __init__(
        self, visitor_id: str, started_at: int, ended_at: int, opened_at: int, log: bytes, retained: bytes
    ) -> None:
        self.visitor_id = visitor_id
        self.started_at = started_at
        self.ended_at = ended_at
        self.opened_at = opened_at
        self.put(log, retained)
        self.dropped = 0
        """How many clicks are in the log and no longer in `retained`."""
        self.crawler = False
        self.beside_closed = False
        """Whether, while it was open, the clicks of another one that had closed early were remembered."""
        self.user_id: str | None = None
        """That clicks of it have; no click of another user joins."""
        self.early_at = 0
        """Arrival time at which a provisional record is due; 0: none, for no click came since the last."""
        self.revision = 0
        """Records so far: provisional ones, and of a session that is held the final ones."""
        self.published = ""
        """session_ids of these, as far as no record has superseded them yet, with spaces between."""
        self.closed_by: CloseReason | Literal[""] = ""
        """Why it has closed, for all that is known; empty while it is open."""
        self.late_at = 0
        """Arrival time of the last click that came after it had closed, or when it should have; 0: none."""
        self.changed_in = 0
        """The `Sessionizer`'s period in which it last changed. It is not stored."""

    def to_row(self) -> tuple[Any, ...]:
        row = (
            self.visitor_id,
            self.started_at,
            self.ended_at,
            self.opened_at,
            self.log,
            self.retained,
            self.dropped,
            self.crawler,
            self.user_id,
            self.early_at,
            self.revision,
            tuple(self.published.split()) if self.published else (),
            self.beside_closed,
        )
        return (*row, self.closed_by, self.late_at) if self.closed_by or self.late_at else row

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Also of a row of an older state version. Raises what `Stored.from_row` does."""
        if len(row) in _SHORTER_ROWS:
            row = (*row, *_ADDED[len(row) - _SHORTER_ROWS[0] :])
        *first, dropped, crawler, user, early_at, revision, published, beside, closed_by, late_at = astuple(
            msgspec.convert(row, _Row)
        )
        session = cls(*first)
        session.dropped, session.crawler, session.beside_closed = dropped, crawler, beside
        session.user_id = (
            user[2] if isinstance(user, tuple) else user
        )  # with its click's place before version 4
        session.early_at, session.revision, session.published = early_at, revision, " ".join(published)
        session.closed_by, session.late_at = closed_by, late_at
        return session

    @property
    def is_open(self) -> bool:
        """False: it has closed, and is held, or only the event_ids of its clicks are still here."""
        return bool(self.retained) and not self.closed_by

    @property
    def is_held(self) -> bool:
        """Whether it has closed and a click may still revise it."""
        return bool(self.retained) and bool(self.closed_by)

    @property
    def is_cut(self) -> bool:
        """Whether it ends where it does for good: by an end event, a user or a cap."""
        return bool(self.closed_by) and self.closed_by not in TIMED_OUT

    def clicks(self) -> list[Click]:
        """The retained clicks in order: first HEAD_CLICKS and last TAIL_CLICKS, all up to KEPT_CLICKS."""
        clicks = self.unpacked(self.event_count - self.dropped)
        _put_in_order(clicks)
        if len(clicks) > KEPT_CLICKS:
            del clicks[HEAD_CLICKS:-TAIL_CLICKS]
        return clicks

    def add(self, click: Click, id_hash: bytes, offset: int) -> None:
        """Take in a click that belongs here."""
        timestamp = click.timestamp
        if timestamp > self.ended_at:
            self.ended_at = timestamp
        elif timestamp < self.started_at:
            self.started_at = timestamp
        self.append(click, id_hash, offset)
        if self.event_count - self.dropped >= COMPACT_AT:
            self._retain(self.clicks())

    def tell_dwell(self, told: Click) -> bool:
        """How long a page was read, as `told` has it; False if no retained click by then has its path.

        The last such click was read until `told.timestamp`; or, where `told` has a dwell, for that long more
        than was known, at most until then.
        """
        clicks = self.unpacked(self.event_count - self.dropped)
        read: Click | None = None
        for click in clicks:
            fits = click.path == told.path and click.timestamp <= told.timestamp
            if fits and (read is None or click_order(read) < click_order(click)):
                read = click
        if read is None:
            return False
        known = read.dwell_ms or 0
        most = told.timestamp - read.timestamp
        dwell_ms = most if told.dwell_ms is None else min(known + told.dwell_ms, most)
        if dwell_ms > known:
            read.dwell_ms = dwell_ms
            self.put(self.log, b"".join([pack_click(click) for click in clicks]))
        return True

    def absorb(self, other: OpenSession) -> int:
        """Merge `other` in; of clicks with the same event_id the first in log order stays.

        Returns how many clicks were dropped as duplicates. Fields of clicks that were let go before don't
        come back when a retained one is dropped.
        """
        owners = (self, other)
        logged = [(which, *entry) for which, owner in enumerate(owners) for entry in entries(owner.log)]
        logged.sort(key=_offset)
        log, time_of = list[bytes](), dict[bytes, int]()
        dropped: tuple[set[bytes], set[bytes]] = (set(), set())
        for which, id_hash, timestamp, offset in logged:
            if id_hash in time_of:
                dropped[which].add(id_hash)
            else:
                time_of[id_hash] = timestamp
                log.append(pack_entry(id_hash, timestamp, offset))
        clicks = [
            click
            for owner, drop in zip(owners, dropped, strict=True)
            for click in owner.clicks()
            if not drop or event_hash(click.event_id) not in drop
        ]
        self.started_at, self.ended_at = min(time_of.values()), max(time_of.values())
        self.opened_at = min(self.opened_at, other.opened_at)
        self.revision = max(self.revision, other.revision)
        self.published = f"{self.published} {other.published}".strip()
        self.put(b"".join(log), b"")
        self.crawler = self.crawler or other.crawler
        self.beside_closed = self.beside_closed or other.beside_closed
        self.late_at = max(self.late_at, other.late_at)
        self.user_id = self.user_id or other.user_id
        _put_in_order(clicks)
        self._retain(clicks)
        return len(logged) - len(time_of)

    def clicks_at_bot_speed(self) -> bool:
        """Whether any BOT_CLICKS clicks lie within BOT_SPAN_MS of event time."""
        if self.event_count < BOT_CLICKS:
            return False
        times = sorted([timestamp for _, timestamp, _ in entries(self.log)])
        spans = [last - first for first, last in zip(times, times[BOT_CLICKS - 1 :], strict=False)]
        return min(spans) <= BOT_SPAN_MS

    def session_id(self, rules_version: str) -> str:
        """The id it has if it closes as it is; see `session_id`."""
        return session_id(self.visitor_id, self.clicks()[0], rules_version)

    def schedule_early(self, now: int, every_ms: int) -> int:
        """Make a provisional record due at the next multiple of `every_ms` after the first arrival."""
        self.early_at = self.opened_at + ((now - self.opened_at) // every_ms + 1) * every_ms
        return self.early_at

    def provisional(self, rules_version: str) -> Session:
        """What it is at `early_at`, while it goes on. The next record of it will be another revision."""
        session = self.close("open", self.early_at, rules_version, False)
        self._note_published(session)
        return session

    def finals(self, reason: CloseReason, closed_at: int, rules_version: str) -> list[Session]:
        """What it becomes when it closes, to be held: a record for each that it supersedes, but at least one.
        Each is a revision."""
        records: list[Session] = []
        while not records or " " in self.published:
            session = self.close(reason, closed_at, rules_version)
            self._note_published(session)
            records.append(session)
        return records

    def close(
        self, reason: CloseReason, closed_at: int, rules_version: str, is_final: bool = True
    ) -> Session:
        """What this window becomes when it closes."""
        clicks = self.clicks()
        own_id = session_id(self.visitor_id, clicks[0], rules_version)
        others = [each for each in self.published.split() if each != own_id] if self.published else None
        return Session(
            own_id,
            self.visitor_id,
            self.user_id,
            self.started_at,
            self.ended_at,
            closed_at,
            self.event_count,
            reason,
            self.crawler or self.clicks_at_bot_speed(),
            clicks,
            is_final,
            self.revision,
            others[0] if others else None,
        )

    def _note_published(self, session: Session) -> None:
        """The next record of it will be another revision."""
        superseded = session.supersedes
        others = [each for each in self.published.split() if each not in (superseded, session.session_id)]
        self.published = " ".join([session.session_id, *others])
        self.revision += 1
        self.early_at = 0

    def _retain(self, clicks: list[Click]) -> None:
        """Make these, in order, the retained clicks; the log must be up to date."""
        if len(clicks) > KEPT_CLICKS:
            del clicks[HEAD_CLICKS:-TAIL_CLICKS]
        self.put(self.log, b"".join([pack_click(click) for click in clicks]))
        self.dropped = self.event_count - len(clicks)


def open_session(visitor_id: str, click: Click, id_hash: bytes, offset: int, opened_at: int) -> OpenSession:
    """A session of one click."""
    window = OpenSession(visitor_id, click.timestamp, click.timestamp, opened_at, b"", b"")
    window.append(click, id_hash, offset)
    return window


def session_id(visitor_id: str, first: Click, rules_version: str) -> str:
    """32 hex digits over visitor, start, event_id of the first click and rules version."""
    event_id = first.event_id
    named = f"{len(visitor_id)}:{visitor_id} {first.timestamp} {len(event_id)}:{event_id} {rules_version}"
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()


def _put_in_order(clicks: list[Click]) -> None:
    """Most are in order, which is cheaper to see than to make."""
    before: Click | None = None
    for click in clicks:
        if before is not None and click.timestamp <= before.timestamp:
            clicks.sort(key=click_order)
            break
        before = click


def _offset(entry: tuple[int, bytes, int, int]) -> int:
    return entry[3]
