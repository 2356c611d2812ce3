"""Where every click ended: in a session, late, dead-lettered, a duplicate, or filtered."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class ClickCounters(msgspec.Struct, array_like=True, gc=False):
    """Clicks of one partition since its first, kept with the state, so that a crash can't bend them.

    received = closed + open + late + dead_lettered + duplicates + filtered, where `open` are the clicks
    in open sessions.
    """

    received: int = 0
    closed: int = 0
    """Clicks in closed sessions."""
    late: int = 0
    dead_lettered: int = 0
    duplicates: int = 0
    filtered: int = 0
    sessions: int = 0
    """Closed sessions."""
    lost: int = 0
    """Clicks that the source topic had dropped before they were read. Not part of `received`."""
    clock_behind: int = 0
    """Records that arrived before a moment that `tick` had already declared silent: what this partition
    closed then, a replay of the log may not close. Part of `received`."""
    behind_at: int = 0
    """Arrival time of the latest of these, ms UTC."""

    def open(self) -> int:
        """What the other counts leave for the clicks in open sessions."""
        return self.received - self.closed - self.late - self.dead_lettered - self.duplicates - self.filtered


def total_of(counters: Iterable[ClickCounters]) -> ClickCounters:
    """The counters of several partitions as one."""
    total = ClickCounters()
    for each in counters:
        for name in total.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(each, name))
    return total
