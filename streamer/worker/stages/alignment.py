"""Partitions that are read side by side, and written into one log: none may get far ahead of the others.

Within a partition records come in the order of their times, or nearly. What is written from several would be
out of order by as much as one is ahead of another: hours, while a worker catches up. So a record waits until
every other partition has committed what is older than it by more than the slack. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

PATIENCE_S = 30.0
"""How long others wait for a partition that doesn't move: its broker may be away."""


class Alignment:
    """How far each partition may be read. Times in ms UTC, monotonic moments in seconds."""

    def __init__(self, slack_ms: int) -> None:
        self._slack_ms = slack_ms
        self._next: dict[int, int | None] = {}
        self._since: dict[int, float] = {}
        """When the time of a partition's next record was seen first."""

    def see(self, next_ms: Mapping[int, int | None], now_s: float) -> None:
        """Take in the time of the next record of each partition that isn't committed; None: there is none."""
        for number, at in next_ms.items():
            if number not in self._since or self._next.get(number) != at:
                self._since[number] = now_s
        self._next = dict(next_ms)

    def limit(self, number: int, now_s: float) -> float:
        """Up to which time records of the partition may be processed now; infinite: all of them."""
        times = [
            at
            for other, at in self._next.items()
            if at is not None and other != number and now_s - self._since[other] < PATIENCE_S
        ]
        return min(times) + self._slack_ms if times else inf

    def behind(self, at: float) -> list[int]:
        """Partitions that hold up others which wait with a record of this time."""
        return [number for number, next_ms in self._next.items() if next_ms is not None and next_ms < at]
