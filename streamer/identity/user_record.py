"""The user's record, decayed profile included: a function of the sessions that are attributed to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from streamer.identity.attribution import LOGIN
from streamer.identity.rules import IdentityRules

HELD_SESSIONS = 64
"""Sessions of a user that count: the newest."""
HISTORY_SESSIONS = 16
"""Sessions that the record lists: the newest."""

Record = dict[str, Any]


class UserSession(NamedTuple):
    """A session that is attributed to the user; `record` is its VisitorIntent."""

    record: Record
    attribution: str
    confidence: float

    @property
    def age_key(self) -> tuple[int, int, str]:
        """The newest session has the greatest."""
        return self.record["closed_at"], self.record["started_at"], self.record["session_id"]


def user_record(user_id: str, sessions: Sequence[UserSession], rules: IdentityRules) -> Record | None:
    """The UserIntent of a user, from sessions in any order; None if none counts."""
    counting = _within_history(sessions, rules)
    if len({session.record["visitor_id"] for session in counting}) > rules.max_visitors:
        counting = _within_history([each for each in counting if each.attribution == LOGIN], rules)
    if not counting:
        return None
    latest = counting[0]
    profile, embedding = _profile(counting, rules)
    return {
        **latest.record,
        "user_id": user_id,
        "attribution": latest.attribution,
        "confidence": latest.confidence,
        "history": [_history_entry(session) for session in counting[:HISTORY_SESSIONS]],
        "profile": profile,
        "profile_embedding": embedding,
        "sessions": len(counting),
        "visitors": len({session.record["visitor_id"] for session in counting}),
    }


def _within_history(sessions: Sequence[UserSession], rules: IdentityRules) -> list[UserSession]:
    """The sessions that count, newest first."""
    newest_first = sorted(sessions, key=lambda session: session.age_key, reverse=True)
    oldest = newest_first[0].record["closed_at"] - rules.history_ms if newest_first else 0
    return [session for session in newest_first if session.record["closed_at"] > oldest][:HELD_SESSIONS]


def _history_entry(session: UserSession) -> Record:
    record = session.record
    top = record["top_intent"]
    probabilities = {intent["intent_id"]: intent["probability"] for intent in record["intents"]}
    return {
        "session_id": record["session_id"],
        "closed_at": record["closed_at"],
        "top_intent": top,
        "probability": probabilities.get(top),
        "attribution": session.attribution,
        "confidence": session.confidence,
    }


def _profile(sessions: Sequence[UserSession], rules: IdentityRules) -> tuple[list[Record], list[float]]:
    """Decayed means over the sessions, newest first: of the intents' probabilities, and of the vectors.

    Only sessions of the newest one's taxonomy version, or embedding space, can be compared with it. Sums run
    newest first, so that the same sessions give the same floats.
    """
    latest = sessions[0].record
    weights: defaultdict[str, float] = defaultdict(float)
    names: dict[str, Record] = {}
    vector = np.zeros(len(latest["embedding"]))
    of_taxonomy = of_space = 0.0
    for session in sessions:
        record = session.record
        age = (latest["closed_at"] - record["closed_at"]) / rules.half_life_ms
        weight = session.confidence * 2.0**-age
        if record["taxonomy_version"] == latest["taxonomy_version"]:
            of_taxonomy += weight
            for intent in record["intents"]:
                weights[intent["intent_id"]] += weight * intent["probability"]
                names.setdefault(intent["intent_id"], intent)
        if record["embedding_space"] == latest["embedding_space"]:
            of_space += weight
            vector += weight * np.asarray(record["embedding"], dtype=np.float64)
    if not of_taxonomy or not of_space:  # links of no confidence at all
        return [], []
    profile = [
        {
            "intent_id": intent_id,
            "label": names[intent_id]["label"],
            "parent": names[intent_id]["parent"],
            "probability": weight / of_taxonomy,
        }
        for intent_id, weight in sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    ]
    return profile, (vector / of_space).astype(np.float32).tolist()
