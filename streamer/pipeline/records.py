"""The records that a closed session gives: embedding, intents, and both as the visitor's latest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import astuple

from streamer.models.arrays import Float32
from streamer.models.bundle import Bundle
from streamer.models.leave_out import Reason
from streamer.models.scorer import Scored, ScoredIntent, ScoreError
from streamer.pipeline.dead_letters import REASON_HEADER, STAGE_HEADER, Header
from streamer.pipeline.partition import SideOutputRecord
from streamer.schemas import codec
from streamer.schemas.binary import BinaryEncoder
from streamer.schemas.click import ROW_FIELDS, Session, to_document
from streamer.schemas.flat import Fields, FlatWriter

_new_tuple = tuple.__new__
_LITTLE_ENDIAN = np.dtype("<f4")


class SessionRecords(NamedTuple):
    """Messages in wire format, all with the visitor as key."""

    key: bytes
    embedding: bytes
    intent: bytes
    visitor: bytes


def unscored(session: Session, reason: str) -> SideOutputRecord:
    """A session that could not be scored, whole, for the dead letter topic; a click is an array."""
    headers: list[Header] = [(STAGE_HEADER, b"score"), (REASON_HEADER, reason.encode())]
    content = msgspec.json.encode(to_document(session))
    return SideOutputRecord(session.visitor_id.encode(), content, headers)


class RecordWriter:
    """Writes the messages of scored sessions, each naming the rules and the one model that made it.

    The fields, and their order, are those of the three schemas: what they share, the vector, the labels with
    their reasons. Each of these parts is encoded once and copied into its messages.
    """

    def __init__(self, bundle: Bundle, rules_version: str) -> None:
        constants = {
            "rules_version": rules_version,
            "model_version": bundle.model_version,
            "embedding_space": bundle.embedding_space,
            "taxonomy_version": bundle.taxonomy.version,
        }
        shared, vector, labels, reasons = _parts()
        self._shared = FlatWriter.of(shared, ROW_FIELDS, constants)
        self._vector = FlatWriter.of(vector, ["embedding", "memberships", "prototypes_version"], constants)
        self._labels = FlatWriter.of(
            labels, Scored.__struct_fields__, constants, item=ScoredIntent.__struct_fields__
        )
        self._reasons = FlatWriter.of(reasons, ["reasons"], item=Reason.__struct_fields__)
        self._prototypes_version = bundle.prototypes.version if bundle.prototypes else None
        self._of_embedding = codec.prefix("session_embedding")
        self._of_intent = codec.prefix("session_intent")
        self._of_visitor = codec.prefix("visitor_intent")

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
        encoder = BinaryEncoder()
        self._shared.write(encoder, session.row())
        shared = encoder.size()
        if scored.memberships is None:
            self._vector.write(encoder, (_packed(scored.embedding), None, None))
        else:
            numbers = _packed(scored.embedding), _packed(scored.memberships)
            self._vector.write(encoder, (*numbers, self._prototypes_version))
        vector = encoder.size()
        embedding = encoder.excerpt(self._of_embedding, vector, vector)
        self._labels.write(encoder, astuple(scored))
        self._reasons.write(encoder, (scored.reasons,))
        intent = encoder.excerpt(self._of_intent, shared, vector)
        visitor = encoder.excerpt(self._of_visitor, vector, vector)
        return _new_tuple(SessionRecords, (session.visitor_id.encode(), embedding, intent, visitor))


def _packed(vector: Float32) -> bytes:
    """Its numbers, little-endian."""
    if vector.dtype is not _LITTLE_ENDIAN:
        vector = vector.astype(_LITTLE_ENDIAN)
    return vector.tobytes()


def _parts() -> tuple[Fields, Fields, Fields, Fields]:
    """Fields that all three messages begin with; those of the vector; those of the labels; their reasons.

    Raises ValueError if the schemas don't have them in this order.
    """
    embedding, intent, visitor = (
        codec.schema(name)["fields"] for name in ("session_embedding", "session_intent", "visitor_intent")
    )
    of_both = {field["name"] for field in embedding} & {field["name"] for field in intent}
    shared = [field for field in embedding if field["name"] in of_both]
    vector = [field for field in embedding if field["name"] not in of_both]
    *labels, reasons = (field for field in intent if field["name"] not in of_both)
    for fields, parts in (
        (embedding, shared + vector),
        (intent, [*shared, *labels, reasons]),
        (visitor, [*shared, *vector, *labels, reasons]),
    ):
        if [field["name"] for field in fields] != [part["name"] for part in parts]:
            raise ValueError(
                "output schemas must have the fields they share first, then the vector's, then the labels'"
            )
    return shared, vector, labels, [reasons]
