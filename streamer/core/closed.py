"""What one partition remembers of sessions that closed early: the event_ids of their clicks.

A session that the watermark closes needs no memory: its clicks, sent again, are late. One that closed before
(cap, end event, user, idleness, drain) would open a second time. So its ids stay until the watermark has
passed it.
"""

from __future__ import annotations

from streamer.core.session import OpenSession
from streamer.core.timers import Deadlines
from streamer.native.click_codec import ENTRY_BYTES

MAX_CLICKS = 1 << 20
"""Clicks that a partition remembers at most; a session that would exceed it is not remembered."""
MAX_CLICKS_OF_VISITOR = 10_000
"""Of one visitor at most these, the latest to close, or as many as one session may have if that is more:
all of them are stored again with every change of the visitor's sessions."""


class ClosedSessions:
    """By visitor one session without fields, whose log has the clicks of all that closed early.

    They are remembered until the watermark is more than a gap beyond the end of the latest of these.
    """

    def __init__(self, gap_ms: int, max_events: int) -> None:
        self.of: dict[str, OpenSession] = {}
        self.ends = Deadlines()
        self._gap_ms = gap_ms
        self._max_bytes = max(max_events, MAX_CLICKS_OF_VISITOR) * ENTRY_BYTES
        self._room = MAX_CLICKS * ENTRY_BYTES

    def restore(self, closed: OpenSession) -> None:
        """Take over what another one had of a visitor."""
        self._put(closed.visitor_id, closed)

    def remember(self, window: OpenSession) -> bool:
        """Remember the clicks of a window that closes; False if there is no room for them."""
        visitor_id = window.visitor_id
        log, start, end, opened_at = window.log, window.started_at, window.ended_at, window.opened_at
        known = self.of.get(visitor_id)
        if known is not None:
            log = (known.log + log)[-self._max_bytes :]
            start, end = min(start, known.started_at), max(end, known.ended_at)
            opened_at = min(opened_at, known.opened_at)
        if len(log) - (len(known.log) if known else 0) > self._room:
            return False
        self._put(visitor_id, OpenSession(visitor_id, start, end, opened_at, log, b""))
        return True

    def forget(self, visitor_id: str) -> None:
        """Drop what is known of a visitor."""
        self._room += len(self.of.pop(visitor_id).log)

    def forget_passed(self, watermark: int) -> list[str]:
        """Drop what the watermark has passed; returns whose it was."""
        passed = []
        for visitor_id in self.ends.take(watermark - 1):
            known = self.of.get(visitor_id)
            if known is None:
                continue
            end = known.ended_at + self._gap_ms
            if end < watermark:
                self.forget(visitor_id)
                passed.append(visitor_id)
            else:
                self.ends.note(visitor_id, end)
        return passed

    def _put(self, visitor_id: str, closed: OpenSession) -> None:
        known = self.of.get(visitor_id)
        if known is None:
            self.ends.note(visitor_id, closed.ended_at + self._gap_ms)
        self._room += (len(known.log) if known else 0) - len(closed.log)
        self.of[visitor_id] = closed
