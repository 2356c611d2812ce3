"""Settings -> the rules of the pure core."""

from __future__ import annotations

from streamer.core.rules import SessionRules
from streamer.settings import Settings


def session_rules(settings: Settings) -> SessionRules:
    """The session and watermark settings, as the sessionizer takes them."""
    session, watermark = settings.session, settings.watermark
    return SessionRules(
        gap_ms=session.gap_ms,
        max_duration_ms=session.max_duration_ms,
        max_events=session.max_events,
        end_events=frozenset(session.end_events),
        out_of_orderness_ms=watermark.out_of_orderness_ms,
        idle_after_ms=watermark.idle_after_ms,
        max_future_ms=watermark.max_future_ms,
        min_timestamp_ms=settings.clicks.min_timestamp,
    )
