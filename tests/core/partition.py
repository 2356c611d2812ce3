"""A partition for tests: clicks in by plain values, closed sessions at hand after every one."""

from __future__ import annotations

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.schemas.click import Click, Session

GAP = 1000
BOUND = 2000
IDLE_AFTER = 50
RULES = SessionRules(
    gap_ms=GAP,
    max_duration_ms=10_000,
    max_events=200,
    end_events=frozenset({"logout"}),
    out_of_orderness_ms=BOUND,
    idle_after_ms=IDLE_AFTER,
    max_future_ms=300,
    min_timestamp_ms=1000,
)
"""Small enough to reckon with: gap 1000, bound 2000, idleness after 50 ms."""


def a_click(at: int, event_id: str, event_type: str = "page_view") -> Click:
    """A click with nothing but what the rules look at."""
    return Click(at, event_id, event_type)


class Partition:
    """Hands clicks to a Sessionizer as the worker does and gathers what closes.

    Idleness closes nothing unless `idle_closing`, so that tests of other rules may let time pass.
    """

    def __init__(self, rules: SessionRules = RULES, *, idle_closing: bool = False) -> None:
        self.sessionizer = Sessionizer(rules, idle_closing=idle_closing)
        self.closed: list[Session] = []
        self.offset = 0

    def click(
        self,
        at: int,
        event_id: str | None = None,
        *,
        visitor: str = "ann",
        arrival: int | None = None,
        event_type: str = "page_view",
        user: str | None = None,
        crawler: bool = False,
    ) -> Outcome:
        """A click with event time `at`, by default arriving at that moment; returns where it ended."""
        self.idle(at if arrival is None else arrival)
        click = a_click(at, event_id or f"e{self.offset}", event_type)
        outcome = self.sessionizer.add(visitor, click, self.offset, user, crawler)
        self.offset += 1
        self._close_due()
        return outcome

    def clicks(self, *times: int, visitor: str = "ann") -> None:
        """Clicks that all have to join a session."""
        for at in times:
            assert self.click(at, visitor=visitor) is Outcome.JOINED

    def idle(self, until: int) -> None:
        """The arrival clock moves without a click (or with garbage only)."""
        self.sessionizer.arrive(until)
        self._close_due()

    def drain(self) -> list[Session]:
        """End of input; returns all sessions that have closed."""
        self.closed += self.sessionizer.drain()
        return self.closed

    @property
    def watermark(self) -> int:
        return self.sessionizer.clock.watermark

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(started_at, ended_at) of the closed sessions, in closing order."""
        return [(session.started_at, session.ended_at) for session in self.closed]

    @property
    def open_spans(self) -> list[tuple[int, int]]:
        """(started_at, ended_at) of the open sessions, in order."""
        sessionizer = self.sessionizer
        windows = [w for visitor in sessionizer.visitors() for w in sessionizer.open_sessions(visitor)]
        return sorted((window.started_at, window.ended_at) for window in windows)

    def _close_due(self) -> None:
        while self.sessionizer.has_due:
            self.closed += self.sessionizer.close_due(limit=100)
