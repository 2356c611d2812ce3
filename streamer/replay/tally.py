"""Where every click of a replay ended, and how many sessions each end has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streamer.pipeline.counters import ClickCounters


class Tally(msgspec.Struct):
    """Of one partition, or of several together.

    read = in sessions (selected, outside, torn, unscored, open) + late + dead-lettered + duplicates +
    filtered; `accounts_of` says it in one mapping.
    """

    sessions: int = 0
    """Selected: closed within the stretch, determined, scored."""
    clicks: int = 0
    """In these."""
    outside_sessions: int = 0
    """Closed before or after the stretch: read because others straddle its bounds."""
    outside_clicks: int = 0
    torn_sessions: int = 0
    """Undetermined: they may have begun before the first record that was read."""
    torn_clicks: int = 0
    unscored_sessions: int = 0
    unscored_clicks: int = 0
    dead: dict[str, int] = {}
    """`stage: reason` -> records, and sessions at stage `score`."""
    closed_by: dict[str, int] = {}
    """Reason -> selected sessions."""

    def add(self, other: Tally) -> None:
        """Take in what the other has counted."""
        for name in self.__struct_fields__:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, count in others.items():
                    mine[key] = mine.get(key, 0) + count
            else:
                setattr(self, name, mine + others)

    def count_dead(self, stage: str, reason: str) -> None:
        name = f"{stage}: {reason}"
        self.dead[name] = self.dead.get(name, 0) + 1


def added(counters: Iterable[ClickCounters]) -> ClickCounters:
    """The counters of several partitions as one."""
    total = ClickCounters()
    for each in counters:
        for name in total.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(each, name))
    return total


def accounts_of(tally: Tally, counters: ClickCounters) -> dict[str, Any]:
    """Clicks read, and each of the places where they ended; all but `read` add up to `read`."""
    return {
        "read": counters.received,
        "in_sessions": tally.clicks,
        "outside_the_stretch": tally.outside_clicks,
        "undetermined": tally.torn_clicks,
        "unscored": tally.unscored_clicks,
        "open_at_the_end": counters.open(),
        "late": counters.late,
        "dead_lettered": counters.dead_lettered,
        "duplicates": counters.duplicates,
        "filtered": counters.filtered,
    }
