"""Sessions, and both stages in one process, for the tests of identity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streamer.identity.attribution import AttributionStage, Progress
from streamer.identity.changes import Attributed, decode, encode
from streamer.identity.rules import IdentityRules
from streamer.identity.users import UserProgress, UserStage
from streamer.schemas import codec


def session(
    number: int, visitor: str, closed_at: int, user: str | None = None, **more: Any
) -> dict[str, Any]:
    """A VisitorIntent, different for each number."""
    return {
        "session_id": f"s{number:03}",
        "visitor_id": visitor,
        "user_id": user,
        "started_at": closed_at - 60_000,
        "ended_at": closed_at - 30_000,
        "closed_at": closed_at,
        "event_count": 3,
        "close_reason": "gap",
        "is_final": True,
        "revision": 0,
        "supersedes": None,
        "is_bot": False,
        "rules_version": "0a1b2c3d",
        "model_version": "test@0123456789ab",
        "embedding": [number / 8, -1.0],
        "embedding_space": "ba9876543210",
        "taxonomy_version": "1",
        "intents": [
            {"intent_id": f"i{number % 3}", "label": "x", "parent": None, "probability": 0.5},
            {"intent_id": "other", "label": "y", "parent": None, "probability": 0.25},
        ],
        "top_intent": f"i{number % 3}",
        "abstained": False,
        "abstain_reason": None,
        **more,
    }


def record_of(
    user: str, sessions: Iterable[dict[str, Any]], rules: IdentityRules, attribution: str, confidence: float
) -> bytes:
    """The UserIntent message of a user with these sessions."""
    stage = UserStage(rules)
    for each in sessions:
        message = codec.encode("visitor_intent", each)
        stage.apply(user, Attributed(each["visitor_id"], message, attribution, confidence))
    ((_, record),) = stage.take().records
    assert record is not None
    return record


class Stages:
    """Attribution and users, with state that goes through bytes whenever `restart` is called."""

    def __init__(self, rules: IdentityRules) -> None:
        self.rules = rules
        self.attribution, self.users = AttributionStage(rules), UserStage(rules)
        self.latest: dict[str, Any] = {}
        """The users topic, compacted."""
        self._visitor_states: dict[str, bytes | None] = {}
        self._user_states: dict[str, bytes | None] = {}

    def session(self, record: dict[str, Any]) -> None:
        self.attribution.session(codec.encode("visitor_intent", record))

    def commit(self) -> None:
        """What commits do: hand changes on, publish records."""
        taken = self.attribution.take()
        self._visitor_states |= taken.states
        for user, change in taken.changes:
            self.users.apply(user, decode(encode(change)))
        published = self.users.take()
        self._user_states |= published.states
        for user, message in published.records:
            if message is None:
                self.latest.pop(user, None)
            else:
                self.latest[user] = codec.decode(message)[1]

    def restart(self) -> None:
        """Take both stages over from what was committed."""
        self.commit()
        progress = msgspec.convert(msgspec.to_builtins(self.attribution.progress), Progress)
        of_users = msgspec.convert(msgspec.to_builtins(self.users.progress), UserProgress)
        self.attribution, self.users = AttributionStage(self.rules, progress), UserStage(self.rules, of_users)
        for visitor, state in self._visitor_states.items():
            self.attribution.restore(visitor, state)
        for user, state in self._user_states.items():
            self.users.restore(user, state)


def comparable(latest: dict[str, Any]) -> dict[str, Any]:
    """Records of the users topic as the oracle has them."""
    return {
        user: {
            "session_id": record["session_id"],
            "attribution": record["attribution"],
            "confidence": record["confidence"],
            "history": [each["session_id"] for each in record["history"]],
            "profile": {each["intent_id"]: each["probability"] for each in record["profile"]},
            "profile_embedding": record["profile_embedding"],
            "sessions": record["sessions"],
            "visitors": record["visitors"],
        }
        for user, record in latest.items()
    }


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Each number and text of nested records by where it stands."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        inner = [leaves(each, f"{path}/{key}") for key, each in items]
        return {key: leaf for found in inner for key, leaf in found.items()}
    return {path: value}
