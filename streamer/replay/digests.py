"""Digests of what a replay or a live worker publishes: equal if and only if the sets of records are.

Two of each kind of output: `record`, over Avro bodies without the schema prefix, for the same log;
`content`, the same without `closed_at`, for the same clicks in another order within the bound. Neither
depends on the order of records.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import tanh
from typing import Any, Literal, NamedTuple

import numpy as np

from streamer.core.digest import MultisetDigest, record_hash
from streamer.models.calibration import log_odds
from streamer.models.leave_out import MOST_REASONS
from streamer.pipeline.records import SessionRecords
from streamer.schemas import codec
from streamer.schemas.spans import span, without

Kind = Literal["embeddings", "intents"]
SCHEMA_OF: dict[Kind, codec.SchemaName] = {"embeddings": "session_embedding", "intents": "session_intent"}

TOLERANCE = 1e-5
_ASKED_FOR: dict[Kind, tuple[str, Sequence[str]]] = {
    "embeddings": ("emit.memberships", ["memberships", "prototypes_version"]),
    "intents": ("emit.reasons", ["reasons"]),
}
"""Fields that are null unless a setting asks for them."""
_NUMBERS_OF_INTENT = ("probability", "parent_probability", "presence")


def canonical_body(kind: Kind, message: bytes) -> bytes:
    """The Avro body in the current schema, whichever landed version the message was written with."""
    name = SCHEMA_OF[kind]
    if message.startswith(codec.prefix(name)):
        return codec.body(message)
    return codec.encode_body(name, codec.decode(message)[1])


class RecordHashes(NamedTuple):
    """The hashes that stand for one record, and its Avro body."""

    record: bytes
    content: bytes
    body: bytes = b""


def hashes_of(kind: Kind, body: bytes) -> RecordHashes:
    """Of an Avro body without prefix."""
    return RecordHashes(record_hash(body), record_hash(without(SCHEMA_OF[kind], body, "closed_at")), body)


def differ_by_rounding(kind: Kind, one: RecordHashes, other: RecordHashes) -> bool:
    """Whether nothing differs but the model's numbers, and these by at most TOLERANCE: another kind of
    processor adds them up in another order."""
    if not (one.body and other.body):
        return False
    (rest, numbers), (others_rest, others_numbers) = _apart(kind, one.body), _apart(kind, other.body)
    return (
        rest == others_rest
        and len(numbers) == len(others_numbers)
        and all(abs(a - b) <= TOLERANCE for a, b in zip(numbers, others_numbers, strict=True))
    )


def setting_between(kind: Kind, one: RecordHashes, other: RecordHashes) -> str | None:
    """The setting that one record was written with and the other without, if nothing else differs."""
    if not (one.body and other.body):
        return None
    setting, names = _ASKED_FOR[kind]
    records = [codec.decode(codec.prefix(SCHEMA_OF[kind]) + each.body)[1] for each in (one, other)]
    if len({record[names[0]] is None for record in records}) == 1:
        return None
    plain = [codec.encode_body(SCHEMA_OF[kind], record | dict.fromkeys(names)) for record in records]
    return setting if differ_by_rounding(kind, *(hashes_of(kind, body) for body in plain)) else None


def _apart(kind: Kind, body: bytes) -> tuple[list[Any], list[float]]:
    """What the rules and the labels are, and the numbers that the model computed."""
    record = codec.decode(codec.prefix(SCHEMA_OF[kind]) + body)[1]
    intents = record.pop("intents", [])
    numbers: list[float] = [*record.pop("embedding", []), *(record.pop("memberships", None) or [])]
    if record.get("reasons") is not None:
        numbers += _without_each(record["reasons"], intents[0]["probability"])
        record["reasons"] = []
    numbers += [each.pop(name) or 0.0 for each in intents for name in _NUMBERS_OF_INTENT]
    return [record, intents], numbers


def _without_each(reasons: list[dict[str, Any]], probability: float) -> list[float]:
    """The label's probability without each of the clicks: log odds make much of rounding. Which clicks they
    are isn't looked at, for two that say the same may change places, and the last may drop out."""
    added = [each["contribution"] for each in reasons] + [0.0] * (MOST_REASONS - len(reasons))
    whole = float(log_odds(np.array(probability, np.float32)))
    return [0.5 + 0.5 * tanh((whole - each) / 2) for each in added]


class OutputDigests:
    """Both digests of both kinds, of the records of one bundle."""

    def __init__(self, stored: dict[str, Any] | None = None) -> None:
        """`stored`: what `as_dict` gave, to go on from there."""
        self._by_kind: dict[Kind, tuple[MultisetDigest, MultisetDigest]] = {}
        for kind in SCHEMA_OF:
            of_kind = (stored or {}).get(kind, {})
            count = of_kind.get("count", 0)
            self._by_kind[kind] = (
                MultisetDigest(count, of_kind.get("record", "")),
                MultisetDigest(count, of_kind.get("content", "")),
            )

    def add(self, sessions: Sequence[SessionRecords]) -> None:
        """Take in the records of sessions. Those of one begin alike, so `closed_at` has one place in both."""
        embeddings = [codec.body(each.embedding) for each in sessions]
        spans = [span("session_embedding", body, "closed_at") for body in embeddings]
        bodies = {"embeddings": embeddings, "intents": [codec.body(each.intent) for each in sessions]}
        for kind, (record, content) in self._by_kind.items():
            record.add(bodies[kind])
            content.add(
                body[:begin] + body[end:] for body, (begin, end) in zip(bodies[kind], spans, strict=True)
            )

    def add_hashes(self, kind: Kind, hashes: RecordHashes) -> None:
        """Take in the record that `hashes_of` gave this for."""
        record, content = self._by_kind[kind]
        record.add_hash(hashes.record)
        content.add_hash(hashes.content)

    def merge(self, other: OutputDigests) -> None:
        for kind, pair in self._by_kind.items():
            for mine, others in zip(pair, other._by_kind[kind], strict=True):
                mine.merge(others)

    def as_dict(self) -> dict[str, Any]:
        """kind -> {count, record, content}, digests as 32 hex digits."""
        return {
            kind: {"count": record.count, "record": record.hexdigest(), "content": content.hexdigest()}
            for kind, (record, content) in self._by_kind.items()
        }
