"""When the open windows of one partition end: a calendar of notes, cheap for a million of them.

Windows grow after a note was made, so a note may come up early, never late; then the visitor's windows
are asked for their true end and the note moves on. Notes far ahead are bare visitor ids in buckets of
BUCKET_MS; only what is at hand is kept in order.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

BUCKET_MS = 1024
"""A second or so: at a million open windows and half an hour of gap a bucket has some 600 notes."""
_NONE = 1 << 62


class Deadlines:
    """Notes of window ends. `end_of` gives the end of a visitor's first window, None if none is open."""

    __slots__ = ("_at_hand", "_buckets", "_end_of", "_numbers", "_reach", "first")

    def __init__(self, end_of: Callable[[str], int | None]) -> None:
        self.first = _NONE
        """No open window ends before this; often exact, never too high."""
        self._end_of = end_of
        self._at_hand: list[tuple[int, str]] = []
        self._reach = -_NONE
        """Buckets up to this number have been put in order."""
        self._buckets: dict[int, list[str]] = {}
        self._numbers: list[int] = []

    def note(self, visitor_id: str, window_end: int) -> None:
        """A window of this visitor ends at `window_end`, or later if it grows."""
        if window_end < self.first:
            self.first = window_end
        number = window_end // BUCKET_MS
        if number <= self._reach:
            heappush(self._at_hand, (window_end, visitor_id))
            return
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [visitor_id]
            heappush(self._numbers, number)
        else:
            bucket.append(visitor_id)

    def take(self, horizon: int) -> set[str]:
        """Visitors with a window that ends at or before `horizon`. Their notes are gone."""
        taken: set[str] = set()
        self._reach = max(self._reach, horizon // BUCKET_MS)
        while self._numbers and self._numbers[0] <= self._reach:
            for visitor_id in set(self._buckets.pop(heappop(self._numbers))):
                self._check(visitor_id, horizon, taken)
        at_hand = self._at_hand
        while at_hand and at_hand[0][0] <= horizon:
            self._check(heappop(at_hand)[1], horizon, taken)
        self.first = min(
            at_hand[0][0] if at_hand else _NONE, self._numbers[0] * BUCKET_MS if self._numbers else _NONE
        )
        return taken

    def _check(self, visitor_id: str, horizon: int, taken: set[str]) -> None:
        window_end = self._end_of(visitor_id)
        if window_end is None:
            return
        if window_end <= horizon:
            taken.add(visitor_id)
        else:
            self.note(visitor_id, window_end)
