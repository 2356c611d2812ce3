"""A small made-up world of a probe: what a visitor wants shows in features, in clicks, and in the vector."""

from __future__ import annotations

import numpy as np

from streamer.models.evaluation.probe.rows import (
    KnownSessions,
    Outcome,
    ProbeRows,
    TeamFeatures,
    probe_rows,
)
from streamer.models.evaluation.task_rows import ClosedSessions
from streamer.schemas.click import Click, Session

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PAGES = ("/cards", "/loans", "/homes", "/help")


def a_session(number: int, visitor_id: str, closed_at: int, pages: tuple[str, ...] = ("/help",)) -> Session:
    clicks = [
        Click(closed_at - HOUR_MS + place * 1_000, f"e{number}-{place}", "page_view", path=page)
        for place, page in enumerate(pages)
    ]
    return Session(
        session_id=f"s{number}",
        visitor_id=visitor_id,
        user_id=None,
        started_at=clicks[0].timestamp,
        ended_at=clicks[-1].timestamp,
        closed_at=closed_at,
        event_count=len(clicks),
        close_reason="gap",
        is_bot=False,
        clicks=clicks,
    )


def known(sessions: list[Session], embeddings: np.ndarray) -> KnownSessions:
    return KnownSessions(ClosedSessions.of(sessions), sessions, embeddings, "space")


def a_world(
    visitors: int = 250, in_vector: float = 2.0, outcomes: tuple[str, ...] = ("loan",), shuffled: bool = False
) -> ProbeRows:
    """Two rows of each visitor. `in_vector`: how many deviations what they want moves the embedding."""
    rng = np.random.default_rng(3)
    names = [None, *outcomes]
    sessions, vectors, happened = [], [], []
    owners, at, age, channel = [], [], [], []
    for number in range(visitors * 2):
        visitor_id, closed_at = f"v{number // 2}", (10 + number % 2 * 30) * DAY_MS + number
        wants = int(rng.integers(len(names)))
        pages = tuple(rng.choice(PAGES, size=4, p=_leaning(wants)).tolist())
        sessions.append(a_session(number, visitor_id, closed_at, pages))
        vector = rng.normal(size=6)
        vector[wants] += in_vector
        vectors.append(vector)
        owners.append(visitor_id)
        at.append(closed_at + HOUR_MS)
        age.append(None if rng.random() < 0.1 else float(40 + 5 * wants + rng.normal() * 10))
        channel.append(str(rng.choice(["app", "branch"])))
        happened.append(names[wants])
    if shuffled:
        happened = [happened[place] for place in rng.permutation(len(happened))]
    events = [
        Outcome(owner, time + DAY_MS, name, f"line {line}")
        for line, (owner, time, name) in enumerate(zip(owners, at, happened, strict=True))
        if name is not None
    ]
    events.append(Outcome("nobody", 100 * DAY_MS, outcomes[0], "the last line"))
    features = TeamFeatures(owners, np.array(at, dtype=np.int64), {"age": age, "channel": channel})
    return probe_rows(features, events, known(sessions, np.array(vectors)), 14 * DAY_MS)


def _leaning(wants: int) -> np.ndarray:
    """Chances of the pages; slightly towards one."""
    chances = np.full(len(PAGES), 0.22)
    chances[wants] += 1.0 - chances.sum()
    return chances
