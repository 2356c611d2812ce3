"""What one replay is to do, fixed before it begins, so that a resumed one does just the same.

The bounds of a topic's partitions are looked up once: clicks that arrive later are not for this replay.
"""

from __future__ import annotations

import msgspec

from streamer.errors import UsageError
from streamer.replay.stretch import Stretch

PLAN_VERSION = 1


class Lane(msgspec.Struct, frozen=True):
    """One partition's part. Offsets; `end` is exclusive."""

    number: int
    start: int
    end: int
    unread_until_ms: int | None = None
    """No record before `start` arrived after it; None if there is none before."""
    drains_ms: tuple[int, ...] = ()
    out_start: int = 0
    """Where the output topic ended before the first record of this replay."""

    @property
    def size(self) -> int:
        """At most so many records."""
        return max(self.end - self.start, 0)


class Plan(msgspec.Struct, frozen=True):
    version: int
    source: str
    """`topic:NAME`, or `file:SHA256` of its bytes."""
    topic: str
    """Ids that are made for clicks without one name it."""
    out: str
    from_ms: int | None
    to_ms: int | None
    rules_version: str
    model_versions: tuple[str, ...]
    idle_closing: bool
    lanes: tuple[Lane, ...]
    erased: dict[str, int] = {}
    """Visitor -> arrival time up to which their clicks are dropped, as they asked for."""
    early_every_ms: int = 0
    """How often live published an open session provisionally; 0: never."""

    @property
    def stretch(self) -> Stretch:
        return Stretch(self.from_ms, self.to_ms)

    @property
    def records(self) -> int:
        """At most so many are read."""
        return sum(lane.size for lane in self.lanes)

    def require_same(self, stored: Plan, where: str, otherwise: str) -> None:
        """Raises UsageError if what was begun is something else; `where` it was, what to do `otherwise`."""
        for field in self.__struct_fields__:
            if field in ("lanes", "erased"):
                continue  # looked up when it was begun, and valid to its end
            mine, begun = getattr(self, field), getattr(stored, field)
            if mine != begun:
                raise UsageError(
                    f"{where} that was begun with another {field}: {_told(begun)}, now {_told(mine)}. "
                    f"Run it again as it was begun, or {otherwise} to start over"
                )


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
