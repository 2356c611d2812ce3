"""Records of the visitors topic and of the users topic by plain values."""

from __future__ import annotations

from typing import Any

from streamer.identity.rules import IdentityRules
from streamer.schemas import codec
from tests.identity.stages import record_of

NOW_MS = 1_795_046_400_000


def a_record(visitor: str, closed_at: int = NOW_MS, **fields: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "session_id": f"s-{visitor}-{closed_at}",
        "visitor_id": visitor,
        "user_id": None,
        "started_at": closed_at - 1000,
        "ended_at": closed_at - 500,
        "closed_at": closed_at,
        "event_count": 3,
        "close_reason": "gap",
        "is_final": True,
        "revision": 0,
        "supersedes": None,
        "is_bot": False,
        "rules_version": "r",
        "model_version": "m@1",
        "embedding": [1.0, 0.5],
        "embedding_space": "space",
        "taxonomy_version": "1",
        "intents": [
            {"intent_id": "cards", "label": "credit / cards", "parent": "p", "probability": 0.75},
            {"intent_id": "loans", "label": "loans", "parent": None, "probability": 0.25},
        ],
        "top_intent": "cards",
        "abstained": False,
        "abstain_reason": None,
    }
    return record | fields


def a_message(visitor: str, closed_at: int = NOW_MS, **fields: Any) -> tuple[bytes, bytes]:
    """(key, value)"""
    return visitor.encode(), codec.encode("visitor_intent", a_record(visitor, closed_at, **fields))


def a_user(user: str, *sessions: dict[str, Any], confidence: float = 0.5) -> tuple[bytes, bytes]:
    """(key, value) of the record that these sessions give."""
    return user.encode(), record_of(user, sessions, IdentityRules(), "link", confidence)
