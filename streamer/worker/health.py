"""Whether a worker is alive and whether it is ready, judged from what is known of it. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamer.worker.refused import MIGRATE


@dataclass(frozen=True)
class Limits:
    """What still counts as healthy."""

    stalled_after_s: float
    """Not live when there was lag for so long and nothing was finished; not ready when somebody else's
    transaction has held a partition up for so long."""
    max_lag: int
    """Not ready while a partition is further behind, in records."""
    answered_within_s: float = 10.0
    """Not ready when the brokers have answered nothing for so long."""


class HeldUp(NamedTuple):
    """A partition whose records from `offset` on belong to a transaction that is open, or come after it."""

    offset: int
    seconds: float
    """Since this was seen first."""


@dataclass(frozen=True)
class HealthSnapshot:
    """What is known of a worker at one moment; durations in seconds, up to that moment."""

    joined: bool
    """Whether the group has said which partitions are this worker's; there may be none."""
    assigned: frozenset[int] = frozenset()
    recovered: frozenset[int] = frozenset()
    """Partitions whose open sessions are in memory."""
    lag: Mapping[int, int] = field(default_factory=dict)
    """Records at the source that are not processed, by assigned partition."""
    held_up: Mapping[int, HeldUp] = field(default_factory=dict)
    """Partitions of which everything that can be read is processed."""
    unanswered_for: float = 0.0
    """Since the brokers last answered a fetch."""
    unread_partitions: int = 0
    """Partitions that were added to the clicks topic since the state was made."""
    topic_is_missing: bool = False
    """Whether there is no clicks topic any more."""
    source: str = "clicks"
    """What the records at the source are, for people."""
    stalled_for: float = 0.0
    """Since there is lag that isn't held up, and nothing was finished."""


def not_live(snapshot: HealthSnapshot, limits: Limits) -> list[str]:
    """Why the process should be ended and started again; empty if it shouldn't."""
    if snapshot.stalled_for < limits.stalled_after_s:
        return []
    behind = sum(snapshot.lag.values())
    return [f"no batch finished for {snapshot.stalled_for:.0f} s, {behind} records behind"]


def held_up_for_long(snapshot: HealthSnapshot, limits: Limits) -> dict[int, HeldUp]:
    """Partitions that an open transaction holds up for longer than it should, in their order."""
    return {n: held for n, held in sorted(snapshot.held_up.items()) if held.seconds >= limits.stalled_after_s}


def not_ready(snapshot: HealthSnapshot, limits: Limits) -> list[str]:
    """Why sessions are not published in time now; empty if they are."""
    if not snapshot.joined:
        return ["not a member of the consumer group yet"]
    reasons = []
    missing = sorted(snapshot.assigned - snapshot.recovered)
    if missing:
        reasons.append(f"partitions {missing} are not recovered yet")
    unanswered = snapshot.unanswered_for > limits.answered_within_s
    if snapshot.assigned and unanswered and not snapshot.topic_is_missing:
        reasons.append(f"no broker has answered for {snapshot.unanswered_for:.0f} s")
    if snapshot.topic_is_missing:
        reasons.append("the clicks topic does not exist")
    if snapshot.unread_partitions:
        reasons.append(
            f"{snapshot.unread_partitions} partitions were added to the clicks topic and are not read: "
            f"{MIGRATE}"
        )
    reasons += [
        f"partition {number} can't be read beyond offset {held.offset}: a producer of {snapshot.source} has "
        f"had a transaction open for {held.seconds:.0f} s. 'kafka-transactions.sh describe-producers' names "
        "it, 'find-hanging' those that never end by themselves"
        for number, held in held_up_for_long(snapshot, limits).items()
    ]
    behind = {number: lag for number, lag in sorted(snapshot.lag.items()) if lag > limits.max_lag}
    if behind:
        reasons.append(f"records behind, by partition: {behind}; the bound is {limits.max_lag}")
    return reasons


class StallWatch:
    """Since when nothing was finished although there was something to do."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._finished = 0

    def seen(self, now: float, lag: int, finished: int) -> float:
        """Seconds of stall, given the lag and how much was finished so far."""
        if lag == 0 or finished != self._finished:
            self._since, self._finished = now, finished
        return now - self._since
