"""The records that a closed session gives: embedding, intents, and both as the visitor's latest."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from models.bundle import Bundle
from models.scorer import Scored

from schemas import codec
from schemas.click import Session
from streamer.dead_letter import REASON_HEADER, STAGE_HEADER, Header
from streamer.partition import Forwarded


class SessionRecords(NamedTuple):
    """Messages in wire format, all with the visitor as key."""

    key: bytes
    embedding: bytes
    intent: bytes
    visitor: bytes


def unscored(session: Session, reason: str) -> Forwarded:
    """A session that could not be scored, whole, for the dead letter topic."""
    headers: list[Header] = [(STAGE_HEADER, b"score"), (REASON_HEADER, reason.encode())]
    return Forwarded(session.visitor_id.encode(), msgspec.json.encode(session), headers)


class RecordWriter:
    """Writes the messages of scored sessions, each naming the rules and the one model that made it."""

    def __init__(self, bundle: Bundle, rules_version: str) -> None:
        self._versions = {"rules_version": rules_version, "model_version": bundle.model_version}
        self._embedding_space = bundle.embedding_space
        self._taxonomy_version = bundle.taxonomy.version

    def write(self, session: Session, scored: Scored) -> SessionRecords:
        """The three messages of one session."""
        common = self._common(session)
        vector = {"embedding": scored.embedding.tolist(), "embedding_space": self._embedding_space}
        labels = {
            "taxonomy_version": self._taxonomy_version,
            "intents": [
                {
                    "intent_id": intent.intent_id,
                    "label": intent.label,
                    "parent": intent.parent,
                    "probability": intent.probability,
                }
                for intent in scored.intents
            ],
            "top_intent": scored.top_intent,
            "abstained": scored.abstained,
            "abstain_reason": scored.abstain_reason,
        }
        return SessionRecords(
            session.visitor_id.encode(),
            codec.encode("session_embedding", {**common, **vector}),
            codec.encode("session_intent", {**common, **labels}),
            codec.encode("visitor_intent", {**common, **vector, **labels}),
        )

    def _common(self, session: Session) -> dict[str, Any]:
        return {
            "session_id": session.session_id,
            "visitor_id": session.visitor_id,
            "user_id": session.user_id,
            "started_at": session.started_at,
            "ended_at": session.ended_at,
            "closed_at": session.closed_at,
            "event_count": session.event_count,
            "close_reason": session.close_reason,
            "is_final": session.is_final,
            "revision": session.revision,
            "supersedes": session.supersedes,
            "is_bot": session.is_bot,
            **self._versions,
        }
