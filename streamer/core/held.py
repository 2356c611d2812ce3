"""Sessions of one partition that have closed and are held, for a click that comes late to revise them.

A session is held until the watermark is beyond its end by a gap and the time in which it can be revised.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamer.core.closed import MAX_CLICKS_OF_VISITOR
from streamer.core.session import OpenSession
from streamer.core.timers import Deadlines

MAX_SESSIONS_OF_VISITOR = 100
"""Of one visitor at most these are held, the last to end, with as many clicks as `ClosedSessions` remembers:
all of them are stored again with every change of the visitor's sessions."""


class HeldSessions:
    """By visitor, in no order."""

    def __init__(self, keep_ms: int, max_events: int) -> None:
        """`keep_ms`: how far the watermark may be beyond the end of a session that is held."""
        self.of: dict[str, list[OpenSession]] = {}
        self.ends = Deadlines()
        self.count = 0
        self._keep_ms = keep_ms
        self._max_clicks = max(max_events, MAX_CLICKS_OF_VISITOR)

    def hold(self, window: OpenSession, watermark: int) -> bool:
        """Hold a window that has closed; False if the watermark has passed it."""
        visitor_id = window.visitor_id
        if window.ended_at + self._keep_ms < watermark:
            return False
        windows = sorted([*self.of.get(visitor_id, ()), window], key=_last_to_end)
        excess = sum(each.event_count for each in windows) - self._max_clicks
        while excess > 0 or len(windows) > MAX_SESSIONS_OF_VISITOR:
            excess -= windows.pop(0).event_count
        self._put(visitor_id, windows)
        self.ends.note(visitor_id, window.ended_at + self._keep_ms)
        return True

    def release(self, window: OpenSession) -> None:
        """Hold this very window no more."""
        visitor_id = window.visitor_id
        self._put(visitor_id, [each for each in self.of[visitor_id] if each is not window])

    def forget(self, visitor_id: str, until_ms: int) -> bool:
        """Drop a visitor's sessions with a click that arrived by `until_ms`; whether there were any."""
        windows = self.of.get(visitor_id, [])
        kept = [each for each in windows if each.opened_at > until_ms]
        self._put(visitor_id, kept)
        return len(kept) < len(windows)

    def forget_passed(self, watermark: int) -> list[str]:
        """Drop what the watermark has passed; returns whose it was."""
        passed = []
        for visitor_id in self.ends.take(watermark - 1):
            windows = self.of.get(visitor_id, [])
            kept = [each for each in windows if each.ended_at + self._keep_ms >= watermark]
            if len(kept) < len(windows):
                self._put(visitor_id, kept)
                passed.append(visitor_id)
            if kept:
                self.ends.note(visitor_id, min(each.ended_at for each in kept) + self._keep_ms)
        return passed

    def windows(self) -> Iterable[OpenSession]:
        """All that are held."""
        return (window for windows in self.of.values() for window in windows)

    def _put(self, visitor_id: str, windows: list[OpenSession]) -> None:
        self.count += len(windows) - len(self.of.get(visitor_id, ()))
        if windows:
            self.of[visitor_id] = windows
        else:
            self.of.pop(visitor_id, None)


def _last_to_end(window: OpenSession) -> tuple[int, int, bytes]:
    return window.ended_at, window.started_at, window.log
