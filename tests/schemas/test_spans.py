"""Cutting a field out of an Avro body gives what a schema without that field would have written."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from streamer.schemas import codec
from streamer.schemas.spans import without

TEXT = st.text(max_size=200)
LONG = st.integers(-(2**63), 2**63 - 1)


def record(name: codec.SchemaName, **fields: object) -> codec.Record:
    example = codec.FOLDER / "examples" / name / "valid" / "closed_by_gap.json"
    return {**json.loads(example.read_text()), **fields}


@pytest.mark.parametrize("name", ["session_embedding", "session_intent", "visitor_intent"])
@given(session=TEXT, visitor=TEXT, user=st.none() | TEXT, start=LONG, closed=LONG)
def test_closed_at_is_cut_out_whatever_comes_before(
    name: codec.SchemaName, session: str, visitor: str, user: str | None, start: int, closed: int
) -> None:
    fields = record(
        name, session_id=session, visitor_id=visitor, user_id=user, started_at=start, closed_at=closed
    )
    schema = codec.schema(name)
    shorter = schema | {"fields": [f for f in schema["fields"] if f["name"] != "closed_at"]}
    stream = BytesIO()
    schemaless_writer(stream, parse_schema(shorter, named_schemas={}), fields)
    assert without(name, codec.encode_body(name, fields), "closed_at") == stream.getvalue()


def test_a_body_that_ends_too_early_is_refused() -> None:
    body = codec.encode_body("session_intent", record("session_intent"))
    for size in range(40):
        with pytest.raises(codec.CodecError, match="ends before field closed_at"):
            without("session_intent", body[:size], "closed_at")


def test_a_field_behind_a_list_cannot_be_found() -> None:
    with pytest.raises(ValueError, match="expected a string, a number or a boolean"):
        without("session_embedding", b"", "embedding_space")
