"""Avro by hand, against fastavro."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import codec, flat

CLICK = codec.schema("click")
READER = flat.FlatReader.of(CLICK)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["é" * n for n in (31, 32, 63, 64, 4095, 4096, 9000)]
)
LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70)
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "long": LONGS,
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "map": st.dictionaries(TEXTS, TEXTS, max_size=80),
}


def values_of(field: dict[str, Any]) -> st.SearchStrategy[Any]:
    of_type = field["type"]
    if isinstance(of_type, str):
        return OF_TYPE[of_type]
    branch = of_type[1] if isinstance(of_type[1], str) else of_type[1]["type"]
    return st.none() | OF_TYPE[branch]


CLICKS = st.fixed_dictionaries({field["name"]: values_of(field) for field in CLICK["fields"]})


def generic(schema: Any, value: Any) -> bytes:
    stream = BytesIO()
    schemaless_writer(stream, parse_schema(schema), value)
    return stream.getvalue()


def read(body: bytes) -> dict[str, Any] | None:
    """None: declined. Compiled or not, the reader does the same."""
    assert READER is not None
    message = b"....." + body
    try:
        found = READER.read(message, 5)
    except flat.Declined:
        with pytest.raises(flat.Declined):
            flat.FlatReader.values(READER, message, 5)
        return None
    assert repr(flat.FlatReader.values(READER, message, 5)) == repr(list(found.values()))
    return found


def usual(record: dict[str, Any]) -> bool:
    """Whether the reader takes it: numbers of ten bytes and texts of 8 KiB it leaves to others."""
    numbers = [value for value in record.values() if isinstance(value, int)]
    texts = [value for value in record.values() if isinstance(value, str)]
    return all(-(2**62) <= n < 2**62 for n in numbers) and all(len(text.encode()) < 8192 for text in texts)


@settings(max_examples=50)
@given(CLICKS)
def test_a_click_is_read_as_the_generic_reader_reads_it(click: dict[str, Any]) -> None:
    expected = click if usual(click) else None
    in_order = [click[field["name"]] for field in CLICK["fields"]]
    assert read(codec.encode_body("click", click)) == expected
    assert codec.decode(codec.encode("click", click)) == ("click", click)
    assert codec.decode_values(codec.encode("click", click)) == ("click", in_order)


@settings(max_examples=300)
@given(CLICKS, st.data())
def test_what_is_read_from_damaged_bytes_the_generic_reader_reads_too(
    click: dict[str, Any], data: st.DataObject
) -> None:
    body = bytearray(codec.encode_body("click", click))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(body), len(body) // 2, len(body) - 1]))
    damaged = bytes(body[:end])
    found = read(damaged)
    if found is not None:
        writer = codec._Writer("click", parse_schema(CLICK, named_schemas={}), None)
        assert repr(codec._read(writer, b"....." + damaged)) == repr(found)


def test_a_map_in_several_blocks_is_read_and_one_with_sizes_declined() -> None:
    start = codec.encode_body("click", {"visitor_id": "v", "timestamp": 1, "event_type": "e"})[:-1] + b"\2"
    found = read(start + b"\2\2a\2b" + b"\2\2c\2d" + b"\0")
    assert found is not None
    assert found["properties"] == {"a": "b", "c": "d"}
    assert read(start + b"\1\x08\2a\2b\0") is None


@settings(max_examples=300)
@given(st.binary(max_size=80))
@example(b"")
@example(b"\x80\x00\x00\x00" + b"\0" * 17)
@example(b"\x80\x80\x00\x00" + b"\0" * 17)
@example(b"\0" + b"\xff" * 8 + b"\x7f" + b"\0" * 18)
@example(b"\0" + b"\xff" * 9 + b"\x01" + b"\0" * 18)
@example(b"\0\0\0" + b"\0" * 15 + b"\2\2\0")
def test_compiled_or_not_any_bytes_are_read_alike(body: bytes) -> None:
    read(body)


def test_a_schema_with_other_kinds_of_fields_has_no_reader() -> None:
    assert flat.FlatReader.of(codec.schema("session_embedding")) is None
    assert flat.FlatReader.of({"fields": [{"name": "a", "type": ["string", "null"]}]}) is None
    assert flat.FlatReader.of({"fields": [{"name": "a", "type": ["null", "string", "long"]}]}) is None
    assert flat.FlatReader.of({"fields": [{"name": "a", "type": {"type": "map", "values": "long"}}]}) is None


@given(LONGS)
@example(-(2**63))
@example(2**63 - 1)
def test_a_long_is_written_in_its_shortest_form(number: int) -> None:
    assert flat.long(number) == generic("long", number)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        flat.long(number)


@given(TEXTS)
def test_a_string_is_its_length_and_its_bytes(text: str) -> None:
    assert flat.string(text) == generic("string", text)
    assert flat.optional_string(text) == generic(["null", "string"], text)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=200))
def test_an_array_is_one_block(numbers: list[float]) -> None:
    written = flat.array(len(numbers), b"".join(map(flat.float32, numbers)))
    assert written == generic({"type": "array", "items": "float"}, numbers)


def test_what_is_missing_is_one_byte() -> None:
    assert flat.optional_string(None) == flat.optional_float32(None) == flat.NULL == b"\0"
    assert flat.optional_float32(0.5) == generic(["null", "float"], 0.5)
