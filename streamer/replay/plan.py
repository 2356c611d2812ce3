"""What one replay is to do, fixed before it begins, so that a resumed one does just the same.

The bounds of a topic's partitions are looked up once: clicks that arrive later are not for this replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.replay.time_range import TimeRange

PLAN_VERSION = 4


@dataclass(frozen=True)
class ReplayConfig:
    """What the replays of all partitions have in common."""

    topic: str
    """Ids that are made for clicks without one name it."""
    rules: SessionRules
    time_range: TimeRange = TimeRange()  # noqa: RUF009, it is frozen
    idle_closing: bool = True
    early_every_ms: int = 0
    """How often live published an open session provisionally; 0: never. A replay yields no provisional
    records, but they count in the final ones' `revision`."""
    at_login: bool = False
    """Whether live did so when somebody logged in."""
    erased: Mapping[str, int] = field(default_factory=dict)
    """Visitor -> arrival time up to which their clicks are dropped, as they asked for, and counted as
    filtered."""


class PartitionPlan(msgspec.Struct, frozen=True):
    """One partition's part. Offsets; `end` is exclusive."""

    number: int
    start: int
    end: int
    unread_until_ms: int | None = None
    """No record before `start` arrived after it; None if there is none before."""
    drains_ms: tuple[int, ...] = ()
    """Arrival times at which everything open was closed, in order: what a drained worker did is not in the
    log."""
    out_start: int = 0
    """Where the output topic ended before the first record of this replay."""

    @property
    def size(self) -> int:
        """At most so many records."""
        return max(self.end - self.start, 0)


class ReplayPlan(msgspec.Struct, frozen=True):
    """The whole plan, as it is stored; `ReplayConfig` says what its fields of the same names are."""

    version: int
    source: str
    """`topic:NAME`, or `file:SHA256` of its bytes."""
    topic: str
    out: str
    from_ms: int | None
    to_ms: int | None
    rules_version: str
    model_versions: tuple[str, ...]
    idle_closing: bool
    partitions: tuple[PartitionPlan, ...]
    erased: dict[str, int] = {}
    early_every_ms: int = 0
    at_login: bool = False
    topic_id: str = ""
    """Distinguishes the topic from a later one of the same name; empty for a file, and in older plans."""
    identity: str = ""
    """The rules by which sessions are attributed to customers; empty: there are no records of customers."""
    links: str = ""
    """`topic:NAME` or `file:SHA256` of its bytes; empty: there are none."""
    memberships: bool = False
    """Whether records have them."""
    reasons: bool = False
    """Whether records have them."""
    clicks: str = ""
    """What clicks looked like: the mapping's name and the beginning of its file's SHA256; empty: ours."""
    record_schemas: tuple[int, ...] = ()
    """Ids of the schemas that the digests, the records and the columns of files follow; empty in older
    plans."""
    side_ends: dict[str, dict[int, int]] = {}
    """By topic beside the clicks: where each partition ends, exclusive."""

    @property
    def records(self) -> int:
        """At most so many are read."""
        return sum(partition.size for partition in self.partitions)

    def partition(self, number: int) -> PartitionPlan:
        return next(each for each in self.partitions if each.number == number)

    def config(self, rules: SessionRules) -> ReplayConfig:
        return ReplayConfig(
            self.topic,
            rules,
            TimeRange(self.from_ms, self.to_ms),
            idle_closing=self.idle_closing,
            early_every_ms=self.early_every_ms,
            at_login=self.at_login,
            erased=self.erased,
        )

    def require_same(self, stored: ReplayPlan, where: str, otherwise: str) -> None:
        """Raises UsageError if what was begun is something else; `where` it was, what to do `otherwise`."""
        for name in self.__struct_fields__:
            if name in ("partitions", "erased", "side_ends"):
                continue  # looked up when it was begun, and valid to its end
            mine, begun = getattr(self, name), getattr(stored, name)
            if name == "topic_id" and not (mine and begun):
                continue  # not known
            if mine != begun:
                raise UsageError(
                    f"{where} that was begun with another {name}: {_in_words(begun)}, now {_in_words(mine)}. "
                    f"Run it again as it was begun, or {otherwise} to start over"
                )


def _in_words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
