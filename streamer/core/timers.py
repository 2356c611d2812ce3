"""When the open windows of one partition end: a calendar of notes, cheap for a million of them.

Windows grow after a note was made, so a note may come up early, never late; who takes it looks at the
visitor's windows and makes a new note where they end later. Notes far ahead are bare visitor ids in buckets
of BUCKET_MS; only what is at hand is kept in order.
"""

from __future__ import annotations

from heapq import heappop, heappush

from streamer.native.collector import untracked

BUCKET_MS = 1024
"""A second or so: at a million open windows and half an hour of gap a bucket has some 600 notes."""
NEVER = 1 << 62
"""Later than any window ends."""


class Deadlines:
    """Notes of window ends."""

    def __init__(self) -> None:
        self.first = NEVER
        """No window that was noted ends before this; often exact, never too high."""
        self._at_hand: list[tuple[int, str]] = []
        self._reach = -NEVER
        """Buckets up to this number have been put in order."""
        self._buckets: dict[int, list[str]] = {}
        self._next = NEVER
        """Number of the first bucket; NEVER if there is none."""

    def note(self, visitor_id: str, window_end: int) -> None:
        """A window of this visitor ends at `window_end`, or later if it grows."""
        if window_end < self.first:
            self.first = window_end
        number = window_end // BUCKET_MS
        if number <= self._reach:
            heappush(self._at_hand, (window_end, visitor_id))
        elif (bucket := self._buckets.get(number)) is not None:
            bucket.append(visitor_id)
        else:
            self._buckets[number] = untracked([visitor_id])
            self._next = min(self._next, number)

    def take(self, horizon: int) -> set[str]:
        """Visitors of all notes up to `horizon`, and of some up to BUCKET_MS later. These notes are gone."""
        self._reach = max(self._reach, horizon // BUCKET_MS)
        at_hand = self._at_hand
        noted: set[str] = set()
        while self._next <= self._reach:
            noted.update(self._buckets.pop(self._next))
            self._next = self._bucket_after(self._next)
        while at_hand and at_hand[0][0] <= horizon:
            noted.add(heappop(at_hand)[1])
        self.first = NEVER if self._next == NEVER else self._next * BUCKET_MS
        if at_hand and at_hand[0][0] < self.first:
            self.first = at_hand[0][0]
        return noted

    def _bucket_after(self, number: int) -> int:
        """The first bucket, of which none has this number or a lower one. Windows end close together: it is
        near, and a look at each number is cheaper than to keep the numbers in order."""
        for near in range(number + 1, number + 1 + len(self._buckets)):
            if near in self._buckets:
                return near
        return min(self._buckets, default=NEVER)
