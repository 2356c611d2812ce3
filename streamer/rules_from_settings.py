"""Settings -> the rules of the pure parts."""

from __future__ import annotations

from streamer.core.rules import SessionRules
from streamer.identity.rules import DAY_MS, IdentityRules
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
        revise_within_ms=settings.late.revise_within_ms,
    )


def identity_rules(settings: Settings) -> IdentityRules:
    """The limits of attribution and of users' records, as the identity stages take them."""
    identity = settings.identity
    return IdentityRules(
        lookback_ms=round(identity.lookback_days * DAY_MS),
        max_users=identity.max_users,
        max_visitors=identity.max_visitors,
        history_ms=round(identity.history_days * DAY_MS),
        half_life_ms=round(identity.half_life_days * DAY_MS),
        no_ids=frozenset(value.lower() for value in identity.no_ids),
    )
