"""Where every click ended: in a session, late, dead-lettered, a duplicate, or filtered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import msgspec

_COUNTS = (
    "received",
    "closed",
    "late",
    "dead_lettered",
    "duplicates",
    "filtered",
    "sessions",
    "lost",
    "clock_behind",
    "behind_at",
    "revised",
    "revised_clicks",
)
_LATER = 2
"""Counts at the end that stay out of a row while they are 0, as they do without revisions."""


class ClickCounters:
    """Clicks of one partition since its first, kept with the state, so that a crash can't bend them.

    received = closed + open + late + dead_lettered + duplicates + filtered, where `open` are the clicks
    in open sessions.
    """

    def __init__(  # noqa: PLR0913, one for each count
        self,
        received: int = 0,
        closed: int = 0,
        late: int = 0,
        dead_lettered: int = 0,
        duplicates: int = 0,
        filtered: int = 0,
        sessions: int = 0,
        lost: int = 0,
        clock_behind: int = 0,
        behind_at: int = 0,
        revised: int = 0,
        revised_clicks: int = 0,
    ) -> None:
        self.received = received
        self.closed = closed
        """Clicks in closed sessions."""
        self.late = late
        self.dead_lettered = dead_lettered
        self.duplicates = duplicates
        self.filtered = filtered
        self.sessions = sessions
        """Closed sessions."""
        self.lost = lost
        """Clicks that the source topic had dropped before they were read. Not part of `received`."""
        self.clock_behind = clock_behind
        """Records that arrived before a moment that `tick` had already declared idle: what this partition
        closed then, a replay of the log may not close. Part of `received`."""
        self.behind_at = behind_at
        """Arrival time of the latest of these, ms UTC."""
        self.revised = revised
        """Final records whose place another takes, or, while their session is open again, will take. Not part
        of `sessions`, nor their clicks of `closed`."""
        self.revised_clicks = revised_clicks

    def open(self) -> int:
        """What the other counts leave for the clicks in open sessions."""
        return self.received - self.closed - self.late - self.dead_lettered - self.duplicates - self.filtered

    def as_dict(self) -> dict[str, int]:
        return dict(zip(_COUNTS, self.to_row(), strict=False))

    def to_row(self) -> list[int]:
        row = [getattr(self, name) for name in _COUNTS]
        return row if self.revised else row[:-_LATER]

    @classmethod
    def from_row(cls, row: object) -> Self:
        """Also of a row that lacks counts at its end. Raises what `Stored.from_row` does."""
        return cls(*msgspec.convert(row, list[int]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClickCounters) and self.to_row() == other.to_row()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClickCounters({self.as_dict()})"


def total_of(partitions: Iterable[ClickCounters]) -> ClickCounters:
    """The counters of several partitions as one."""
    rows = [[getattr(each, name) for name in _COUNTS] for each in partitions]
    return ClickCounters(*map(sum, zip(*rows, strict=True)))
