"""The messages of a scored session, against the codec of whole records."""

from __future__ import annotations

from dataclasses import asdict, replace
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from streamer.models.leave_out import Reason
from streamer.models.scorer import Scored, ScoredIntent
from streamer.pipeline.records import RecordWriter, SessionRecords, unscored
from streamer.schemas import codec
from streamer.schemas.click import Click, Session, from_document

BUNDLE: Any = SimpleNamespace(
    model_version="m@1",
    embedding_space="space",
    taxonomy=SimpleNamespace(version="7"),
    prototypes=SimpleNamespace(version="0a1b2c3d4e5f"),
)
SESSION = Session(
    session_id="0" * 32,
    visitor_id="v",
    user_id=None,
    started_at=1,
    ended_at=2,
    closed_at=3,
    event_count=4,
    close_reason="gap",
    is_bot=False,
    clicks=[Click(1, "e", "page_view")],
)
SCORED = Scored(
    embedding=np.arange(4, dtype=np.float32) / 3,
    intents=[ScoredIntent("a", "A", "p", 0.75), ScoredIntent("b", "B", "p", 0.25)],
    top_intent="a",
    abstained=False,
    abstain_reason=None,
)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LONGS = st.integers(-(2**63), 2**63 - 1)
INTS = st.integers(0, 2**31 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
SESSIONS = st.builds(
    Session,
    session_id=TEXTS,
    visitor_id=TEXTS,
    user_id=st.none() | TEXTS,
    started_at=LONGS,
    ended_at=LONGS,
    closed_at=LONGS,
    event_count=INTS,
    close_reason=st.sampled_from(["gap", "idle", "open"]),
    is_bot=st.booleans(),
    clicks=st.just([]),
    is_final=st.booleans(),
    revision=INTS,
    supersedes=st.none() | TEXTS,
)
INTENTS = st.builds(
    ScoredIntent,
    TEXTS,
    TEXTS,
    TEXTS,
    FLOATS,
    parent_probability=st.none() | FLOATS,
    presence=st.none() | FLOATS,
)
REASONS = st.builds(Reason, INTS, TEXTS, TEXTS, st.none() | TEXTS, FLOATS)
VECTORS = st.lists(FLOATS, max_size=70).map(lambda numbers: np.array(numbers, np.float32))
SCORES = st.builds(
    Scored,
    embedding=VECTORS,
    memberships=st.none() | VECTORS,
    intents=st.lists(INTENTS, max_size=6),
    top_intent=st.none() | TEXTS,
    abstained=st.booleans(),
    abstain_reason=st.none() | st.sampled_from(["ambiguous", "novel"]),
    reasons=st.none() | st.lists(REASONS, max_size=4),
)


@given(SESSIONS, SCORES)
def test_each_message_is_that_of_the_codec_of_whole_records(session: Session, scored: Scored) -> None:
    whole = {
        **asdict(session),
        **msgspec.structs.asdict(scored),
        "rules_version": "rules",
        "model_version": "m@1",
        "embedding": scored.embedding.tolist(),
        "embedding_space": "space",
        "memberships": None if scored.memberships is None else scored.memberships.tolist(),
        "prototypes_version": None if scored.memberships is None else "0a1b2c3d4e5f",
        "taxonomy_version": "7",
        "intents": [msgspec.structs.asdict(intent) for intent in scored.intents],
        "reasons": None
        if scored.reasons is None
        else [msgspec.structs.asdict(reason) for reason in scored.reasons],
    }
    expected = SessionRecords(
        session.visitor_id.encode(),
        codec.encode("session_embedding", of("session_embedding", whole)),
        codec.encode("session_intent", of("session_intent", whole)),
        codec.encode("visitor_intent", of("visitor_intent", whole)),
    )
    assert RecordWriter(BUNDLE, "rules").write(session, scored) == expected


def scored_with(**fields: Any) -> Scored:
    return msgspec.structs.replace(SCORED, **fields)


def test_what_avro_can_t_hold_raises() -> None:
    writer = RecordWriter(BUNDLE, "rules")
    with pytest.raises(UnicodeEncodeError):
        writer.write(replace(SESSION, visitor_id="\ud800"), SCORED)
    with pytest.raises(UnicodeEncodeError):
        writer.write(SESSION, scored_with(top_intent="\ud800"))
    with pytest.raises(OverflowError):
        writer.write(replace(SESSION, closed_at=2**63), SCORED)
    with pytest.raises(OverflowError):
        writer.write(SESSION, scored_with(intents=[ScoredIntent("a", "A", "p", 1e300)]))


def test_an_embedding_may_be_of_other_numbers_or_a_part_of_a_matrix() -> None:
    writer = RecordWriter(BUNDLE, "rules")
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4) / 3
    expected = writer.write(SESSION, scored_with(embedding=np.ascontiguousarray(matrix[:, 1])))
    assert writer.write(SESSION, scored_with(embedding=matrix[:, 1])) == expected
    assert writer.write(SESSION, scored_with(embedding=matrix[:, 1].astype(np.float64))) == expected
    assert writer.write(SESSION, scored_with(embedding=matrix[:, 1].astype(">f4"))) == expected


def of(name: codec.SchemaName, whole: dict[str, Any]) -> dict[str, Any]:
    return {field["name"]: whole[field["name"]] for field in codec.schema(name)["fields"]}


def test_each_message_decodes_to_what_the_session_and_the_model_said() -> None:
    records = RecordWriter(BUNDLE, "rules").write(SESSION, SCORED)
    shared = {
        **{key: value for key, value in asdict(SESSION).items() if key != "clicks"},
        "rules_version": "rules",
        "model_version": "m@1",
    }
    vector = {
        "embedding": SCORED.embedding.tolist(),
        "embedding_space": "space",
        "memberships": None,
        "prototypes_version": None,
    }
    labels = {
        "taxonomy_version": "7",
        "intents": [msgspec.structs.asdict(intent) for intent in SCORED.intents],
        "top_intent": "a",
        "abstained": False,
        "abstain_reason": None,
        "reasons": None,
    }
    assert codec.decode(records.embedding) == ("session_embedding", shared | vector)
    assert codec.decode(records.intent) == ("session_intent", shared | labels)
    assert codec.decode(records.visitor) == ("visitor_intent", shared | vector | labels)
    assert records.visitor == codec.encode("visitor_intent", shared | vector | labels)
    assert records.key == b"v"


def test_forty_memberships_take_175_bytes_more_than_none() -> None:
    shares = np.full(40, 1 / 40, np.float32)
    told, silent = (
        RecordWriter(BUNDLE, "rules").write(SESSION, scored_with(memberships=each)) for each in (shares, None)
    )
    assert len(told.embedding) - len(silent.embedding) == 175
    assert len(told.visitor) - len(silent.visitor) == 175
    assert told.intent == silent.intent


def schema_before(field: str, name: codec.SchemaName) -> Any:
    """The last one that had no such field."""
    without = [s for s in codec.landed(name) if field not in {each["name"] for each in s["fields"]}]
    return parse_schema(without[-1], named_schemas={})


def read_before(field: str, name: codec.SchemaName, message: bytes) -> codec.Record:
    """As who knows no newer schema reads it."""
    writer = parse_schema(codec.schema(name), named_schemas={})
    return codec.read_with(writer, message, codec.PREFIX_BYTES, schema_before(field, name), name)


def with_labels(records: SessionRecords) -> list[tuple[codec.SchemaName, bytes]]:
    return [("session_intent", records.intent), ("visitor_intent", records.visitor)]


def test_readers_of_the_schemas_before_memberships_go_on_reading() -> None:
    shares = np.array([0.25, 0.75], np.float32)
    records = RecordWriter(BUNDLE, "rules").write(SESSION, scored_with(memberships=shares))
    messages: list[tuple[codec.SchemaName, bytes]] = [
        ("session_embedding", records.embedding),
        ("visitor_intent", records.visitor),
    ]
    for name, message in messages:
        record = read_before("memberships", name, message)
        assert "memberships" not in record
        assert record["embedding"] == SCORED.embedding.tolist()


REASON = Reason(7, "e", "form_start", None, 3.5)


@pytest.mark.parametrize("reasons", [None, [], [REASON]])
def test_readers_of_the_schemas_before_reasons_go_on_reading(reasons: list[Reason] | None) -> None:
    records = RecordWriter(BUNDLE, "rules").write(SESSION, scored_with(reasons=reasons))
    for name, message in with_labels(records):
        record = read_before("reasons", name, message)
        assert "reasons" not in record
        assert record["top_intent"] == "a"


def test_without_reasons_a_record_is_what_it_was_and_a_null() -> None:
    records = RecordWriter(BUNDLE, "rules").write(SESSION, SCORED)
    for name, message in with_labels(records):
        stream = BytesIO()
        schemaless_writer(stream, schema_before("reasons", name), codec.decode(message)[1])
        assert codec.body(message) == stream.getvalue() + b"\0"


def test_a_session_that_could_not_be_scored_is_kept_whole() -> None:
    forwarded = unscored(SESSION, "bad_numbers")
    assert forwarded.reason == "bad_numbers"
    assert dict(forwarded.headers)["x-streamer-stage"] == b"score"
    assert forwarded.value is not None
    assert from_document(msgspec.json.decode(forwarded.value)) == SESSION
