"""Watermark and arrival clock of one partition.

Arrival time is a running maximum: it never goes back. The watermark rises only with clicks; idleness
closes sessions but never moves it. How a click raises it, and which click is late, is in `sessionizer`
(`_advance`, `_place`).
"""

from __future__ import annotations

from typing import Self

import msgspec

NEVER = -(1 << 62)
"""A watermark before the first click: below every event time."""


class PartitionClock:
    """All in ms UTC; `raised_at` is the arrival time of the last record that raised the watermark.

    `idle_until` is up to where idleness has moved `now`, as far as no record has: a record that arrives
    before it was missed.
    """

    def __init__(self, now: int = 0, watermark: int = NEVER, raised_at: int = 0, idle_until: int = 0) -> None:
        self.now = now
        self.watermark = watermark
        self.raised_at = raised_at
        self.idle_until = idle_until

    def idle_horizon(self, idle_after_ms: int) -> int:
        """The latest window end that idleness has closed by `now`.

        A window that ends at E closes by idleness at raised_at + idle_after + (E - watermark).
        """
        return self.watermark + self.now - self.raised_at - idle_after_ms

    def idle_close_at(self, window_end: int, idle_after_ms: int) -> int:
        """The arrival time at which idleness closes a window that ends at `window_end`."""
        return self.raised_at + idle_after_ms + window_end - self.watermark

    def to_row(self) -> list[int]:
        return [self.now, self.watermark, self.raised_at, self.idle_until]

    @classmethod
    def from_row(cls, row: object) -> Self:
        """Also of a row that lacks fields at its end. Raises what `Stored.from_row` does."""
        return cls(*msgspec.convert(row, list[int]))
