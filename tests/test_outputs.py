"""The messages of a scored session, against the codec of whole records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.scorer import Scored, ScoredIntent
from schemas import codec
from schemas.click import Click, Session
from streamer.outputs import RecordWriter, unscored

BUNDLE: Any = SimpleNamespace(
    model_version="m@1", embedding_space="space", taxonomy=SimpleNamespace(version="7")
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
SCORES = st.builds(
    Scored,
    embedding=st.lists(FLOATS, max_size=70).map(lambda numbers: np.array(numbers, np.float32)),
    intents=st.lists(INTENTS, max_size=6),
    top_intent=st.none() | TEXTS,
    abstained=st.booleans(),
    abstain_reason=st.none() | st.sampled_from(["ambiguous", "novel"]),
)


@given(SESSIONS, SCORES)
def test_each_message_is_that_of_the_codec_of_whole_records(session: Session, scored: Scored) -> None:
    whole = {
        **msgspec.structs.asdict(session),
        **msgspec.structs.asdict(scored),
        "rules_version": "rules",
        "model_version": "m@1",
        "embedding": scored.embedding.tolist(),
        "embedding_space": "space",
        "taxonomy_version": "7",
        "intents": [msgspec.structs.asdict(intent) for intent in scored.intents],
    }
    records = RecordWriter(BUNDLE, "rules").write(session, scored)
    assert records.key == session.visitor_id.encode()
    assert records.embedding == codec.encode("session_embedding", of("session_embedding", whole))
    assert records.intent == codec.encode("session_intent", of("session_intent", whole))
    assert records.visitor == codec.encode("visitor_intent", of("visitor_intent", whole))


def of(name: codec.SchemaName, whole: dict[str, Any]) -> dict[str, Any]:
    return {field["name"]: whole[field["name"]] for field in codec.schema(name)["fields"]}


def test_each_message_decodes_to_what_the_session_and_the_model_said() -> None:
    records = RecordWriter(BUNDLE, "rules").write(SESSION, SCORED)
    shared = {
        **{key: value for key, value in msgspec.structs.asdict(SESSION).items() if key != "clicks"},
        "rules_version": "rules",
        "model_version": "m@1",
    }
    vector = {"embedding": SCORED.embedding.tolist(), "embedding_space": "space"}
    labels = {
        "taxonomy_version": "7",
        "intents": [msgspec.structs.asdict(intent) for intent in SCORED.intents],
        "top_intent": "a",
        "abstained": False,
        "abstain_reason": None,
    }
    assert codec.decode(records.embedding) == ("session_embedding", shared | vector)
    assert codec.decode(records.intent) == ("session_intent", shared | labels)
    assert codec.decode(records.visitor) == ("visitor_intent", shared | vector | labels)
    assert records.visitor == codec.encode("visitor_intent", shared | vector | labels)
    assert records.key == b"v"


def test_a_session_that_could_not_be_scored_is_kept_whole() -> None:
    forwarded = unscored(SESSION, "bad_numbers")
    assert forwarded.reason == "bad_numbers"
    assert dict(forwarded.headers)["x-streamer-stage"] == b"score"
    assert forwarded.value is not None
    assert msgspec.json.decode(forwarded.value, type=Session) == SESSION
