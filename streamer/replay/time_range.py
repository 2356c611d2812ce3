"""The range of arrival times that a replay is about, and which of its sessions are certain.

A time range selects sessions by `closed_at`, half-open: [from_ms, to_ms). Reading begins earlier, so that
sessions which straddle `from_ms` are whole. A session whose clicks may go on before the first record that
was read is undetermined: nobody can say what live made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamer.core.rules import SessionRules
from streamer.errors import UsageError


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Arrival time in ms UTC; None: from the first record, to the last one there is."""

    from_ms: int | None = None
    to_ms: int | None = None

    def __post_init__(self) -> None:
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise UsageError(
                f"--from {self.from_ms} is not before --to {self.to_ms}: expected an earlier time"
            )

    def holds(self, closed_at: int) -> bool:
        """Whether a session that closed then is in the time range."""
        after_begin = self.from_ms is None or closed_at >= self.from_ms
        return after_begin and (self.to_ms is None or closed_at < self.to_ms)

    def read_from_ms(self, rules: SessionRules) -> int | None:
        """The arrival time to read from; None: from the first record."""
        return None if self.from_ms is None else self.from_ms - read_back_ms(rules)


def read_back_ms(rules: SessionRules) -> int:
    """How long before a session's closing its first click can have arrived, while clicks keep coming and
    their event times are about their arrivals; of a revision, the first click of the one that made it one."""
    once = rules.max_duration_ms + rules.gap_ms + rules.out_of_orderness_ms + rules.max_future_ms
    return once + _revised_after_ms(rules)


def _revised_after_ms(rules: SessionRules) -> int:
    """How much later a session starts that no click of one held before can have published again."""
    if not rules.revise_within_ms:
        return 0
    return rules.revise_within_ms + rules.max_duration_ms + rules.gap_ms


class Span(Protocol):
    """What is looked at of a session."""

    @property
    def visitor_id(self) -> str: ...

    @property
    def started_at(self) -> int: ...

    @property
    def ended_at(self) -> int: ...


class UndeterminedSessions:
    """Finds sessions that may have begun before reading began.

    `unread_until_ms`: no unread record arrived after it; None if there is no unread record. No click before
    can have an event time beyond that by more than `max_future`. What comes within a gap after such a click
    may be a part of its session; what comes within a gap after an undetermined session, the next one cut by
    a cap or a user, may have been cut elsewhere. A later start is certain: by then the watermark has passed
    what it could have been, and is the same again.
    """

    def __init__(
        self, unread_until_ms: int | None, rules: SessionRules, reaches: dict[str, int] | None = None
    ) -> None:
        self.reaches = reaches if reaches is not None else {}
        """Visitor -> the latest event time that an undetermined session's successor may start at."""
        self._gap_ms = rules.gap_ms
        self._certain_after_ms = (
            None
            if unread_until_ms is None
            else unread_until_ms + rules.max_future_ms + rules.gap_ms + _revised_after_ms(rules)
        )

    def is_undetermined(self, session: Span) -> bool:
        """Whether it is undetermined. Ask in order of closing."""
        certain_after = self._certain_after_ms
        if certain_after is None:
            return False
        reach = max(certain_after, self.reaches.get(session.visitor_id, certain_after))
        if session.started_at > reach:
            self.reaches.pop(session.visitor_id, None)
            return False
        self.reaches[session.visitor_id] = max(reach, session.ended_at + self._gap_ms)
        return True


class UndeterminedSpans:
    """Event times that undetermined sessions cover, by visitor."""

    def __init__(self, gap_ms: int) -> None:
        self._gap_ms = gap_ms
        self._spans: dict[str, list[tuple[int, int]]] = {}

    def add(self, session: Span) -> None:
        self._spans.setdefault(session.visitor_id, []).append((session.started_at, session.ended_at))

    def touch(self, session: Span) -> bool:
        """Whether the session lies within a gap of one of them, and so may be a part of it."""
        gap = self._gap_ms
        return any(
            session.started_at <= end + gap and session.ended_at >= start - gap
            for start, end in self._spans.get(session.visitor_id, ())
        )
