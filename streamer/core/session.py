"""An open session: packed bytes that grow by a click or by a merge.

Of every click three numbers are logged (event_id hash, event time, offset); its fields are kept for the
first HEAD_CLICKS and the last TAIL_CLICKS. Both parts are byte strings, so a million open sessions cost
the garbage collector nothing and go to the changelog as they are.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from operator import attrgetter

import msgspec
from xxhash import xxh3_64_digest

from schemas.click import HEAD_CLICKS, KEPT_CLICKS, TAIL_CLICKS, Click, CloseReason, Session
from streamer.core import click_codec
from streamer.core.click_codec import encode_click

try:
    from streamer.core import kept_clicks
except ImportError:  # it couldn't be built
    kept_clicks = None  # type: ignore[assignment]

BOT_CLICKS = 100
BOT_SPAN_MS = 100_000
"""A session with BOT_CLICKS clicks within BOT_SPAN_MS of event time is flagged as a bot's."""

_ENTRY = struct.Struct("<8sqq")
ENTRY_BYTES = _ENTRY.size
COMPACT_AT = 2 * KEPT_CLICKS
"""Clicks with fields at which those in the middle are let go."""
pack_entry = _ENTRY.pack
decode_clicks = click_codec.decode_clicks if kept_clicks is None else kept_clicks.decode_clicks


def event_hash(event_id: str) -> bytes:
    """Eight bytes that stand for an event_id within one session."""
    return xxh3_64_digest(event_id.encode())


click_order = attrgetter("timestamp", "event_id")
"""Sort key: the order of clicks within a session."""


class LastUser(msgspec.Struct, array_like=True, gc=False, frozen=True, order=True):
    """The last known user_id, with the place of its click in the session's order."""

    timestamp: int
    event_id: str
    user_id: str


class OpenSession(msgspec.Struct, array_like=True, gc=False, eq=False):
    """A session that can still grow. `started_at`, `ended_at` are inclusive event times in ms."""

    visitor_id: str
    started_at: int
    ended_at: int
    opened_at: int
    """Arrival time of its first click to arrive."""
    log: bytes
    """Per click, in log order: event_id hash (8 bytes), event time (8), offset (8)."""
    kept: bytes
    """Kept clicks one after the other, each as `encode_click` gives it; unordered until it is read."""
    dropped: int = 0
    """How many clicks are in the log and no longer in `kept`."""
    crawler: bool = False
    last_user: LastUser | None = None
    early_at: int = 0
    """Arrival time at which a provisional record of it is due; 0: none, for no click came since the last."""
    revision: int = 0
    """Provisional records of it so far."""
    published: tuple[str, ...] = ()
    """session_ids of these, as far as no record has superseded them yet."""

    @property
    def event_count(self) -> int:
        return len(self.log) // ENTRY_BYTES

    def entries(self) -> Iterator[tuple[bytes, int, int]]:
        """(event_id hash, event time, offset) of every click, in log order."""
        return _ENTRY.iter_unpack(self.log)

    def holds(self, id_hash: bytes) -> bool:
        """Whether a click with this event_id hash is in the session."""
        found = self.log.find(id_hash)
        while found >= 0:
            if found % ENTRY_BYTES == 0:
                return True
            found = self.log.find(id_hash, found + 1)
        return False

    def clicks(self) -> list[Click]:
        """The kept clicks in order: first HEAD_CLICKS and last TAIL_CLICKS, all up to KEPT_CLICKS."""
        clicks = decode_clicks(self.event_count - self.dropped, self.kept)
        clicks.sort(key=click_order)
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
        self.log += pack_entry(id_hash, timestamp, offset)
        self.kept += encode_click(click)
        if self.event_count - self.dropped >= COMPACT_AT:
            self._keep(self.clicks())

    def note_user(self, user: LastUser) -> None:
        """Remember the user_id of the click that comes last in the session's order."""
        if self.last_user is None or user > self.last_user:
            self.last_user = user

    def absorb(self, other: OpenSession) -> int:
        """Merge `other` in; of clicks with the same event_id the first in log order stays.

        Returns how many clicks were dropped as duplicates. Fields of clicks that were let go before don't
        come back when a kept one is dropped.
        """
        owners = (self, other)
        entries = [(which, *entry) for which, owner in enumerate(owners) for entry in owner.entries()]
        entries.sort(key=lambda entry: entry[3])
        log, time_of = bytearray(), dict[bytes, int]()
        dropped: tuple[set[bytes], set[bytes]] = (set(), set())
        for which, id_hash, timestamp, offset in entries:
            if id_hash in time_of:
                dropped[which].add(id_hash)
            else:
                time_of[id_hash] = timestamp
                log += pack_entry(id_hash, timestamp, offset)
        clicks = [
            click
            for owner, drop in zip(owners, dropped, strict=True)
            for click in owner.clicks()
            if not drop or event_hash(click.event_id) not in drop
        ]
        self.started_at, self.ended_at = min(time_of.values()), max(time_of.values())
        self.opened_at = min(self.opened_at, other.opened_at)
        self.revision = max(self.revision, other.revision)
        self.published = (*self.published, *other.published)
        self.log = bytes(log)
        self.crawler |= other.crawler
        users = [user for user in (self.last_user, other.last_user) if user is not None]
        self.last_user = max(users, default=None)
        self._keep(sorted(clicks, key=click_order))
        return len(entries) - len(time_of)

    def clicks_at_bot_speed(self) -> bool:
        """Whether any BOT_CLICKS clicks lie within BOT_SPAN_MS of event time."""
        if self.event_count < BOT_CLICKS:
            return False
        times = sorted(timestamp for _, timestamp, _ in self.entries())
        return any(
            last - first <= BOT_SPAN_MS for first, last in zip(times, times[BOT_CLICKS - 1 :], strict=False)
        )

    def session_id(self, rules_version: str) -> str:
        """The id it has if it closes as it is; see `session_id`."""
        return session_id(self.visitor_id, self.clicks()[0], rules_version)

    def schedule_early(self, now: int, every_ms: int) -> int:
        """Make a provisional record due at the next multiple of `every_ms` after the first arrival."""
        self.early_at = self.opened_at + ((now - self.opened_at) // every_ms + 1) * every_ms
        return self.early_at

    def provisional(self, rules_version: str) -> Session:
        """What it is at `early_at`, while it goes on. The next record of it will be another revision."""
        session = self.close("open", self.early_at, rules_version, is_final=False)
        superseded = session.supersedes
        others = [each for each in self.published if each not in (superseded, session.session_id)]
        self.published = (session.session_id, *others)
        self.revision += 1
        self.early_at = 0
        return session

    def close(
        self, reason: CloseReason, closed_at: int, rules_version: str, *, is_final: bool = True
    ) -> Session:
        """What this window becomes when it closes."""
        clicks = self.clicks()
        user = self.last_user
        own_id = session_id(self.visitor_id, clicks[0], rules_version)
        others = [each for each in self.published if each != own_id] if self.published else None
        return Session(
            session_id=own_id,
            visitor_id=self.visitor_id,
            user_id=user.user_id if user else None,
            started_at=self.started_at,
            ended_at=self.ended_at,
            closed_at=closed_at,
            event_count=self.event_count,
            close_reason=reason,
            is_bot=self.crawler or self.clicks_at_bot_speed(),
            clicks=clicks,
            is_final=is_final,
            revision=self.revision,
            supersedes=others[0] if others else None,
        )

    def _keep(self, clicks: list[Click]) -> None:
        """Make these, in order, the kept clicks; the log must be up to date."""
        if len(clicks) > KEPT_CLICKS:
            del clicks[HEAD_CLICKS:-TAIL_CLICKS]
        self.kept = b"".join(map(encode_click, clicks))
        self.dropped = self.event_count - len(clicks)


def open_session(visitor_id: str, click: Click, id_hash: bytes, offset: int, opened_at: int) -> OpenSession:
    """A session of one click."""
    at = click.timestamp
    return OpenSession(visitor_id, at, at, opened_at, pack_entry(id_hash, at, offset), encode_click(click))


def session_id(visitor_id: str, first: Click, rules_version: str) -> str:
    """32 hex digits over visitor, start, event_id of the first click and rules version."""
    event_id = first.event_id
    named = f"{len(visitor_id)}:{visitor_id} {first.timestamp} {len(event_id)}:{event_id} {rules_version}"
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()
