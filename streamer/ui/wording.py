"""What the page says in words."""

from __future__ import annotations

import datetime as dt

from streamer.client.table import Reason
from streamer.ui.feed import Connection
from streamer.ui.state import NO_LABEL, Recent, Session


def clock(at_ms: int) -> str:
    """09:30:00, UTC"""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%H:%M:%S")


def date_and_clock(at_ms: int) -> str:
    """2026-11-30 09:30:00, UTC"""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(ms: int) -> str:
    """12 s, 3 min, 2.5 h, 4 days"""
    seconds = max(ms, 0) / 1000
    for longest, unit_s, unit in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < longest:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{round(seconds / 3600, 1):g} h" if seconds < 172_800 else f"{seconds / 86_400:,.0f} days"


def percent(probability: float) -> str:
    if 0 < probability < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= probability < 1 else f"{probability:.0%}"


def verdict(session: Session) -> str:
    """The label, or why there is none."""
    label = session.label
    return f"no label ({words(session.abstain_reason)})" if label is None else label.label


def reasons_of(session: Session) -> str:
    """The clicks that the record names, the strongest first; empty: none."""
    return "; ".join(
        ", ".join([f"{each.contribution:+.2f} click {each.click}", *map(words, _kinds(each))])
        for each in session.reasons
    )


def _kinds(reason: Reason) -> list[str]:
    return [each for each in (reason.event_type, reason.page_type) if each]


def words(name: str | None) -> str:
    """too_short, as people write it"""
    return (name or "no reason given").replace("_", " ")


def name_of(outcome: str, labels: dict[str, str]) -> str:
    """Of an intent, a parent or NO_LABEL."""
    return "no label" if outcome == NO_LABEL else labels.get(outcome, outcome)


def news_of(connection: Connection) -> str:
    """How it stands with the brokers; empty: all is well."""
    match connection.state:
        case "starting":
            return "Connecting to Kafka …"
        case "reading":
            return "Reading what was published before this page was opened …"
        case "away":
            return f"No broker answers ({connection.detail}). What is shown is old; the page goes on trying."
        case "refused":
            return f"Kafka refuses: {connection.detail}. The page goes on trying."
        case "live":
            return ""


def pace(recent: Recent) -> str:
    """How fast sessions come, and which of them are listed."""
    rate = f"{recent.a_minute:,} sessions in the last minute"
    if recent.one_in == 1:
        return rate
    return f"{rate}: too many to read, so the list has one in {recent.one_in}. Counts and shares are of all."
