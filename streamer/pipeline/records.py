"""The records that a closed session gives: embedding, intents, and both as the visitor's latest."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from models.bundle import Bundle
from models.scorer import Scored, ScoredIntent, ScoreError
from schemas import codec, flat
from schemas.click import Session
from streamer.pipeline.dead_letters import REASON_HEADER, STAGE_HEADER, Header
from streamer.pipeline.partition import SideOutputRecord

try:
    from streamer.pipeline.record_bytes import RecordBytes
except ImportError:  # it couldn't be built
    RecordBytes = None  # type: ignore[assignment,misc]

_ALL_NUMBERS: Final = struct.Struct("<fBfBf").pack
"""Of an intent whose numbers are all there: the branch of an optional one is a byte."""


class SessionRecords(NamedTuple):
    """Messages in wire format, all with the visitor as key."""

    key: bytes
    embedding: bytes
    intent: bytes
    visitor: bytes


def unscored(session: Session, reason: str) -> SideOutputRecord:
    """A session that could not be scored, whole, for the dead letter topic."""
    headers: list[Header] = [(STAGE_HEADER, b"score"), (REASON_HEADER, reason.encode())]
    return SideOutputRecord(session.visitor_id.encode(), msgspec.json.encode(session), headers)


class RecordWriter:
    """Writes the messages of scored sessions, each naming the rules and the one model that made it.

    An Avro record is its fields one after the other, so the records share what is encoded once, and what
    never changes is encoded before. The order of the fields is that of the schemas, which tests hold this to.
    """

    def __init__(self, bundle: Bundle, rules_version: str) -> None:
        self._versions = flat.string(rules_version) + flat.string(bundle.model_version)
        self._embedding_space = flat.string(bundle.embedding_space)
        self._taxonomy_version = flat.string(bundle.taxonomy.version)
        self._named: dict[tuple[str, str, str], bytes] = {}
        self._prefixes = [codec.prefix(n) for n in ("session_embedding", "session_intent", "visitor_intent")]
        self._compiled: RecordBytes | None = None
        if RecordBytes is not None:
            self._compiled = RecordBytes(
                SessionRecords, self._versions, self._embedding_space, self._taxonomy_version, self._prefixes
            )

    def write_all(
        self, sessions: Sequence[Session], scored: Sequence[Scored | ScoreError]
    ) -> list[SessionRecords]:
        """Of the sessions that could be scored. For a thread beside the event loop: thousands take long."""
        return [
            self.write(session, result)
            for session, result in zip(sessions, scored, strict=True)
            if not isinstance(result, ScoreError)
        ]

    def write(self, session: Session, scored: Scored) -> SessionRecords:
        """The three messages of one session. Raises UnicodeEncodeError on text that UTF-8 can't hold."""
        if self._compiled is not None:
            return self._compiled.write(session, scored)
        shared = self._shared(session)
        vector = self._vector(scored)
        labels = self._labels(scored)
        of_embedding, of_intent, of_visitor = self._prefixes
        return SessionRecords(
            session.visitor_id.encode(),
            b"".join((of_embedding, shared, vector)),
            b"".join((of_intent, shared, labels)),
            b"".join((of_visitor, shared, vector, labels)),
        )

    def _shared(self, session: Session) -> bytes:
        return b"".join(
            (
                flat.string(session.session_id),
                flat.string(session.visitor_id),
                flat.optional_string(session.user_id),
                flat.long(session.started_at),
                flat.long(session.ended_at),
                flat.long(session.closed_at),
                flat.long(session.event_count),
                flat.string(session.close_reason),
                flat.FALSE_TRUE[session.is_final],
                flat.long(session.revision),
                flat.optional_string(session.supersedes),
                flat.FALSE_TRUE[session.is_bot],
                self._versions,
            )
        )

    def _vector(self, scored: Scored) -> bytes:
        numbers = scored.embedding.astype("<f4", copy=False).tobytes()
        return flat.array(len(scored.embedding), numbers) + self._embedding_space

    def _labels(self, scored: Scored) -> bytes:
        intents = b"".join(map(self._intent, scored.intents))
        return b"".join(
            (
                self._taxonomy_version,
                flat.array(len(scored.intents), intents),
                flat.optional_string(scored.top_intent),
                flat.FALSE_TRUE[scored.abstained],
                flat.optional_string(scored.abstain_reason),
            )
        )

    def _intent(self, intent: ScoredIntent) -> bytes:
        key = intent.intent_id, intent.label, intent.parent
        named = self._named.get(key)
        if named is None:  # a bundle has few intents
            parent = flat.optional_string(intent.parent)
            named = flat.string(intent.intent_id) + flat.string(intent.label) + parent
            self._named[key] = named
        of_parent, presence = intent.parent_probability, intent.presence
        if of_parent is None or presence is None:
            likely = flat.float32(intent.probability)
            return named + likely + flat.optional_float32(of_parent) + flat.optional_float32(presence)
        return named + _ALL_NUMBERS(intent.probability, 2, of_parent, 2, presence)
