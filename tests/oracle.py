"""What sessions the raw clicks make, in the most naive way: sort and cut. Imports nothing of the product.

Takes clicks as they stand in a JSONL file, all valid, in log order, none late. Holds for clicks in any
order as long as there are no caps and, where there are end events or a visitor has several users, the log is
in order of event time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Expected(NamedTuple):
    """A session as it has to come out; `event_ids` in order of (timestamp, event_id)."""

    visitor_id: str
    started_at: int
    ended_at: int
    event_count: int
    event_ids: tuple[str, ...]


def expected_sessions(
    clicks: Iterable[Mapping[str, Any]], gap_ms: int = 1_800_000, end_events: Sequence[str] = ("logout",)
) -> list[Expected]:
    """Sessions in order of (visitor_id, started_at).

    A gap is inclusive; a session ends with an end event, and before a click of another user; a repeated
    event_id counts once.
    """
    by_visitor: dict[str, list[Mapping[str, Any]]] = {}
    for click in clicks:
        by_visitor.setdefault(click["visitor_id"], []).append(click)
    return [
        _summary(session)
        for _, own in sorted(by_visitor.items())
        for session in _cut(sorted(own, key=lambda click: click["timestamp"]), gap_ms, end_events)
    ]


def _cut(
    clicks: list[Mapping[str, Any]], gap_ms: int, end_events: Sequence[str]
) -> list[list[Mapping[str, Any]]]:
    sessions: list[list[Mapping[str, Any]]] = []
    known: set[str] = set()
    ended, user = True, None
    for click in clicks:
        if not sessions or click["timestamp"] - sessions[-1][-1]["timestamp"] > gap_ms:
            ended, known = True, set()
        if click["event_id"] in known:
            continue
        known.add(click["event_id"])
        own = click.get("user_id")
        if ended or (user and own and own != user):
            sessions.append([])
            user = None
        sessions[-1].append(click)
        user = user or own
        ended = click["event_type"] in end_events
    return sessions


def _summary(clicks: list[Mapping[str, Any]]) -> Expected:
    times = [click["timestamp"] for click in clicks]
    ids = sorted({(click["timestamp"], click["event_id"]) for click in clicks})
    return Expected(
        clicks[0]["visitor_id"], min(times), max(times), len(ids), tuple(event_id for _, event_id in ids)
    )
