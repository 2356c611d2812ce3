"""Who asked to be erased, as a partition has to know it. Pure: worker and replay use the same.

An erasure covers the visitor's clicks that arrived up to its moment, the arrival time of its record. It may
be forgotten once the partition's arrival clock is beyond that, for then no covered click can come any more.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from streamer.schemas import codec
from streamer.schemas.click import MAX_ID_BYTES


class Erased(NamedTuple):
    """Whom an erasure names: either a visitor or a customer."""

    visitor_id: str | None = None
    user_id: str | None = None


def erased_by(value: bytes | None) -> Erased | None:
    """Whom a record of the erasures topic names; None for a tombstone and for what is no erasure."""
    try:
        name, record = codec.decode(value or b"")
    except codec.CodecError:
        return None
    if name != "erasure":
        return None
    visitor_id, user_id = record["visitor_id"], record["user_id"]
    if user_id is not None and visitor_id:
        return None
    if not 0 < len((visitor_id if user_id is None else user_id).encode()) <= MAX_ID_BYTES:
        return None
    return Erased(visitor_id=visitor_id) if user_id is None else Erased(user_id=user_id)


def erased_visitor(value: bytes | None) -> str | None:
    """The visitor of a record of the erasures topic; None if it names none."""
    erased = erased_by(value)
    return None if erased is None else erased.visitor_id


class Erasures:
    """Erasures in the order of their topic. `position` is the offset of the next one to read."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.until: dict[str, int] = {}
        """Visitor -> moment in ms UTC, inclusive; only of erasures that still count."""
        self._unsettled: deque[tuple[int, int, str]] = deque()

    def note(self, visitor_id: str, until_ms: int, offset: int) -> None:
        """Take in the erasure at `offset` of its topic."""
        self.until[visitor_id] = max(until_ms, self.until.get(visitor_id, until_ms))
        self._unsettled.append((until_ms, offset, visitor_id))
        self.position = max(self.position, offset + 1)

    def covers(self, visitor_id: str, arrival_ms: int) -> bool:
        """Whether a click of this visitor that arrived at `arrival_ms` has to go."""
        until = self.until.get(visitor_id)
        return until is not None and arrival_ms <= until

    def settle(self, arrival_clock_ms: int) -> int:
        """Forget what can't come any more; returns the offset from which a restart has to read."""
        unsettled = self._unsettled
        while unsettled and unsettled[0][0] < arrival_clock_ms:
            visitor_id = unsettled.popleft()[2]
            if self.until.get(visitor_id, arrival_clock_ms) < arrival_clock_ms:
                del self.until[visitor_id]
        return unsettled[0][1] if unsettled else self.position
