"""Clicks of one partition, from the first to the last, into sessions: what a file or a test needs.

The same step per record as the worker's: arrival clock, what silence has closed, the click, what it has
closed; the end of input closes the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas.click import Click, Session
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer

_PORTION = 1000


class ArrivedClick(NamedTuple):
    """A click at its place in the log; `arrival_ms` is arrival time, ms UTC, not necessarily in order."""

    visitor_id: str
    click: Click
    user_id: str | None
    crawler: bool
    arrival_ms: int


def sessions_of(
    clicks: Iterable[ArrivedClick],
    rules: SessionRules,
    outcomes: Counter[Outcome] | None = None,
    *,
    idle_closing: bool = False,
) -> Iterator[Session]:
    """Sessions in closing order. `outcomes` counts, while it runs, where each click ended; in the end
    the JOINED are the sum of all `event_count`."""
    outcomes = Counter() if outcomes is None else outcomes
    sessionizer = Sessionizer(rules, idle_closing=idle_closing)
    for offset, (visitor_id, click, user_id, crawler, arrival_ms) in enumerate(clicks):
        sessionizer.arrive(arrival_ms)
        while sessionizer.has_due:
            yield from sessionizer.close_due(_PORTION)
        merged = sessionizer.merged_duplicates
        outcomes[sessionizer.add(visitor_id, click, offset, user_id, crawler)] += 1
        if sessionizer.merged_duplicates != merged:
            repeated = sessionizer.merged_duplicates - merged
            outcomes[Outcome.JOINED] -= repeated
            outcomes[Outcome.DUPLICATE] += repeated
        while sessionizer.has_due:
            yield from sessionizer.close_due(_PORTION)
    yield from sessionizer.drain()


def by_event_time(
    clicks: Iterable[tuple[str, Click, str | None, bool]],
) -> Iterator[ArrivedClick]:
    """Clicks of a log without arrival times: as if each arrived at the latest event time so far."""
    latest = 0
    for visitor_id, click, user_id, crawler in clicks:
        latest = max(latest, click.timestamp)
        yield ArrivedClick(visitor_id, click, user_id, crawler, latest)
