from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.schemas import codec

CLICK = {"visitor_id": "v1", "timestamp": 1_795_046_400_000, "event_type": "page_view"}
IDS = {
    "click": [1386904659, 1386904659],
    "session_embedding": [183273580, 183273580, 1225070993],
    "session_intent": [475093659, 814171312, 814171312, 2024124497],
    "visitor_intent": [933635840, 1566118103, 1566118103, 1755604647, 840456302],
    "user_intent": [1710138961],
    "identity_link": [1497575988],
    "erasure": [94014128, 1494769290],
    "lookup": [1319133001],
}
"""Ids of all landed versions, oldest first: they are in topics, so they never change. A version that changes
nothing but words has the id of the one before."""


def reason_of(message: bytes) -> str:
    with pytest.raises(codec.CodecError) as refused:
        codec.decode(message)
    return refused.value.reason


def outcome(message: bytes) -> str:
    try:
        return codec.decode(message)[0]
    except codec.CodecError as error:
        return error.reason


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
def test_a_landed_schema_never_changes_its_id(name: codec.SchemaName) -> None:
    assert [codec.schema_id(landed) for landed in codec.landed(name)] == IDS[name]


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
def test_the_current_schema_has_landed(name: codec.SchemaName) -> None:
    assert codec.landed(name)[-1] == codec.schema(name), "python -m streamer.schemas.compatibility --land"


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
def test_every_field_of_a_schema_says_what_it_is(name: codec.SchemaName) -> None:
    schema = codec.schema(name)
    assert schema["doc"]
    assert all(field["doc"].endswith(".") for field in schema["fields"])


@pytest.mark.parametrize("name", codec.SCHEMA_NAMES)
def test_no_field_takes_values_of_no_bytes_in_a_list(name: codec.SchemaName) -> None:
    """A few bytes could claim a billion of them."""
    text = json.dumps(codec.schema(name))
    assert '"items": "null"' not in text
    assert '"values": "null"' not in text


def test_the_prefix_is_a_zero_byte_and_the_id_in_big_endian() -> None:
    message = codec.encode("click", CLICK)
    assert message[:5] == b"\0" + struct.pack(">I", IDS["click"][0])


def test_the_body_is_the_message_without_its_prefix() -> None:
    message = codec.encode("click", CLICK)
    assert codec.body(message) == codec.encode_body("click", CLICK) == message[5:]


def test_a_change_of_words_keeps_the_id_and_a_change_of_type_does_not() -> None:
    schema = codec.schema("click")
    schema["fields"][1]["doc"] = "Other words."
    assert codec.schema_id(schema) == IDS["click"][0]
    schema["fields"][1]["type"] = "int"
    assert codec.schema_id(schema) != IDS["click"][0]


def test_a_record_becomes_one_line_of_json() -> None:
    _, record = codec.decode(codec.encode("click", {**CLICK, "price": float("nan")}))
    line = codec.to_json(record)
    assert b"\n" not in line
    assert json.loads(line)["price"] is None
    assert json.loads(line)["timestamp"] == 1_795_046_400_000


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "truncated_avro"),
        (b"\0\0\0", "truncated_avro"),
        (b"\1" + bytes(16) + b"body", "unsupported_magic_byte"),
        (b'{"visitor_id":1}', "unsupported_magic_byte"),
        (b"\0\0\0\0\1" + codec.encode_body("click", CLICK), "unknown_schema_id"),
        (b"\0\xff\xff\xff\xff" + codec.encode_body("click", CLICK), "unknown_schema_id"),
        (codec.encode("click", CLICK)[:-1], "truncated_avro"),
        (codec.encode("click", CLICK)[:5], "truncated_avro"),
        (codec.encode("click", CLICK) + b"\0", "trailing_bytes"),
        (codec.encode("click", CLICK).replace(b"v1", b"\xff1"), "invalid_utf8"),
        (codec.encode("click", CLICK).replace(b"v1", b"\xed\xa0"), "invalid_utf8"),
        (codec.encode("click", CLICK)[:-1] + b"\x06", "invalid_avro"),
    ],
)
def test_bytes_that_are_no_message_are_refused_with_a_reason(message: bytes, reason: str) -> None:
    assert reason_of(message) == reason


def test_an_error_tells_fields_but_never_values() -> None:
    with pytest.raises(codec.CodecError) as refused:
        codec.encode("click", {**CLICK, "price": "secret", "page_url": 5})
    assert str(refused.value) == "record is no click: wrong or missing are page_url, price"


def test_a_length_or_count_beyond_the_message_costs_nothing() -> None:
    prefix = codec.encode("click", CLICK)[:5]
    huge = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    negative = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    for claim in (huge, negative):
        assert reason_of(prefix + claim + b"v") in {"truncated_avro", "invalid_avro"}
        properties = codec.encode("click", CLICK)[:-1] + b"\x02" + claim
        assert reason_of(properties) in {"truncated_avro", "invalid_avro"}


json_text = st.text(st.characters(exclude_categories=["Cs"]))
clicks = st.fixed_dictionaries(
    {"visitor_id": json_text, "timestamp": st.integers(-(2**63), 2**63 - 1), "event_type": json_text},
    optional={
        "event_id": st.none() | json_text,
        "dwell_ms": st.none() | st.integers(-(2**63), 2**63 - 1),
        "price": st.none() | st.floats(allow_nan=False),
        "consent": st.none() | st.booleans(),
        "properties": st.none() | st.dictionaries(json_text, json_text),
    },
)


@given(clicks)
def test_any_click_comes_back_as_it_went(click: dict[str, Any]) -> None:
    name, record = codec.decode(codec.encode("click", click))
    assert name == "click"
    assert {key: value for key, value in record.items() if value is not None} == {
        key: value for key, value in click.items() if value is not None
    }


@settings(max_examples=2000)
@given(clicks, st.data())
def test_a_damaged_message_gives_a_record_or_an_error_of_ours(
    click: dict[str, Any], data: st.DataObject
) -> None:
    message = bytearray(codec.encode("click", click))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(5, len(message) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(message)) in {
        "click",
        "invalid_avro",
        "invalid_utf8",
        "trailing_bytes",
        "truncated_avro",
    }
