"""The messages of a scored session, against the codec of whole records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

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
