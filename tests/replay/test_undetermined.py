"""Sessions that may have begun before reading began."""

from __future__ import annotations

from typing import NamedTuple

from streamer.core.rules import SessionRules
from streamer.replay.time_range import UndeterminedSessions

RULES = SessionRules(gap_ms=1000, max_future_ms=0)


class Span(NamedTuple):
    visitor_id: str
    started_at: int
    ended_at: int


def test_what_follows_the_latest_undetermined_session_is_undetermined_whichever_closed_last() -> None:
    """A change of users closes a visitor's sessions in any order of event time."""
    undetermined = UndeterminedSessions(5000, RULES)
    assert undetermined.is_undetermined(Span("ann", 5500, 9000))
    assert undetermined.is_undetermined(Span("ann", 5400, 5400))
    assert undetermined.is_undetermined(Span("ann", 9900, 9900))
    assert not undetermined.is_undetermined(Span("ann", 11_000, 11_000))
