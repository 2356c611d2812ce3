"""Arrival clock and watermark of one partition.

Arrival time is a running maximum: it never goes back. The watermark rises only with clicks; silence
closes sessions but never moves it.
"""

from __future__ import annotations

import msgspec

NEVER = -(1 << 62)
"""A watermark before the first click: below every event time."""


class PartitionClock(msgspec.Struct, array_like=True, gc=False):
    """All in ms UTC; `raised_at` is the arrival time of the last record that raised the watermark.

    `idle_until` is up to where silence has moved `now`, as far as no record has: a record that arrives before
    it was missed.
    """

    now: int = 0
    watermark: int = NEVER
    raised_at: int = 0
    idle_until: int = 0

    def idle_horizon(self, idle_after_ms: int) -> int:
        """The latest window end that silence has closed by `now`.

        A window that ends at E closes by silence at raised_at + idle_after + (E - watermark).
        """
        return self.watermark + self.now - self.raised_at - idle_after_ms

    def idle_close_at(self, window_end: int, idle_after_ms: int) -> int:
        """The arrival time at which silence closes a window that ends at `window_end`."""
        return self.raised_at + idle_after_ms + window_end - self.watermark
