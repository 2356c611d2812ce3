"""Sessions made by hand, for tests of the models."""

from __future__ import annotations

import random

from streamer.schemas.click import KEPT_CLICKS, Click, Session

START_MS = 1_700_000_000_000


def a_click(at_ms: int = 0, **fields: object) -> Click:
    known = {"event_type": "page_view", "event_id": f"e{at_ms}"} | fields
    return Click(timestamp=START_MS + at_ms, **known)  # type: ignore[arg-type]


def a_session(*clicks: Click, visitor_id: str = "v", session_id: str = "0" * 32, cut: int = 0) -> Session:
    """`cut`: how many clicks were left out between head and tail."""
    return Session(
        session_id=session_id,
        visitor_id=visitor_id,
        user_id=None,
        started_at=clicks[0].timestamp if clicks else START_MS,
        ended_at=clicks[-1].timestamp if clicks else START_MS,
        closed_at=START_MS + 10**7,
        event_count=len(clicks) + cut,
        close_reason="gap",
        is_bot=False,
        clicks=list(clicks),
    )


def of_length(count: int, cut: int = 0, **fields: object) -> Session:
    return a_session(*(a_click(i * 1000, **fields) for i in range(count)), cut=cut)


TOPICS = {
    "mortgage": (["/home/mortgage/rates", "/home/mortgage", "/home/calculator"], "mortgage rates"),
    "card": (["/cards/gold", "/cards/credit/limits", "/cards"], "credit card"),
    "travel": (["/insurance/travel", "/insurance/travel/quote", "/insurance"], "travel cover"),
}


def bank_sessions(count: int, seed: int = 0, per_visitor: int = 2) -> list[Session]:
    """Sessions that are each about one of TOPICS, with some pages of no topic."""
    rng = random.Random(seed)
    sessions = []
    for i in range(count):
        paths, query = TOPICS[rng.choice(sorted(TOPICS))]
        at, clicks = i * 60_000, []
        for j in range(rng.choice([1, 2, 3, 5, 8, 13, 30, KEPT_CLICKS])):
            at += rng.randint(500, 60_000)
            path = rng.choice(["/", "/login"]) if rng.random() < 0.2 else rng.choice(paths)
            asked = query if rng.random() < 0.15 else None
            clicks.append(
                a_click(
                    at,
                    event_id=f"{i}-{j}",
                    path=path,
                    page_type=rng.choice(["product", "faq"]),
                    search_query=asked,
                    device=rng.choice(["mobile", "desktop"]),
                )
            )
        sessions.append(a_session(*clicks, visitor_id=f"v{i // per_visitor}", session_id=f"{i:032x}"))
    return sessions
