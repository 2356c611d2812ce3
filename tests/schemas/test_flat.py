"""Avro by a plan of its schema, against fastavro."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.schemas import codec, flat
from streamer.schemas.binary import BinaryEncoder

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
    """None: declined."""
    assert READER is not None
    try:
        return READER.read(b"....." + body, 5)
    except flat.Declined:
        return None


def generic_read(body: bytes) -> dict[str, Any]:
    writer = codec._Writer("click", parse_schema(CLICK, named_schemas={}), None)
    return codec._read(writer, b"....." + body)


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
        assert repr(generic_read(damaged)) == repr(found)


def test_a_map_in_several_blocks_is_read_and_one_with_sizes_declined() -> None:
    start = codec.encode_body("click", {"visitor_id": "v", "timestamp": 1, "event_type": "e"})[:-1] + b"\2"
    found = read(start + b"\2\2a\2b" + b"\2\2c\2d" + b"\0")
    assert found is not None
    assert found["properties"] == {"a": "b", "c": "d"}
    assert read(start + b"\1\x08\2a\2b\0") is None


SMALL = {"visitor_id": "v", "timestamp": 1, "event_type": "e"}
BODY = codec.encode_body("click", SMALL)


@pytest.mark.parametrize(
    "body",
    [
        BODY + b"\0",
        BODY[:-1],
        BODY[:-1] + b"\4\0",
        codec.encode_body("click", SMALL | {"timestamp": 2**62}),
        codec.encode_body("click", SMALL | {"visitor_id": "v" * 8192}),
    ],
    ids=["bytes after the end", "cut off", "a third branch", "ten bytes of a number", "a long text"],
)
def test_what_is_of_no_usual_form_is_declined(body: bytes) -> None:
    assert read(BODY) is not None
    assert read(body) is None


@settings(max_examples=300)
@given(st.binary(max_size=80))
@example(b"")
@example(b"\x80\x00\x00\x00" + b"\0" * 17)
@example(b"\x80\x80\x00\x00" + b"\0" * 17)
@example(b"\0" + b"\xff" * 8 + b"\x7f" + b"\0" * 18)
@example(b"\0" + b"\xff" * 9 + b"\x01" + b"\0" * 18)
@example(b"\0\0\0" + b"\0" * 15 + b"\2\2\0")
def test_any_bytes_are_read_as_the_generic_reader_reads_them_or_declined(body: bytes) -> None:
    found = read(body)
    if found is not None:
        assert repr(generic_read(body)) == repr(found)


def array_of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def record_of(*types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{n}", "type": each} for n, each in enumerate(types)]
    return {"type": "record", "name": "Inner", "fields": fields}


@pytest.mark.parametrize(
    "of_type",
    [
        ["string", "null"],
        ["null", "string", "long"],
        {"type": "map", "values": "long"},
        array_of("string"),
        array_of({"type": "enum", "name": "E", "symbols": ["A"]}),
        array_of(record_of(array_of("string"))),
        array_of(record_of(array_of("Inner"))),
        array_of(record_of()),
        ["null", array_of(record_of())],
    ],
    ids=str,
)
def test_a_schema_with_a_field_of_another_kind_has_no_reader(of_type: Any) -> None:
    assert flat.FlatReader.of({"fields": [{"name": "a", "type": of_type}]}) is None


class Item(msgspec.Struct):
    other: int
    name: str
    share: float | None


ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [{"name": "name", "type": "string"}, {"name": "share", "type": ["null", "float"]}],
}
FIELDS: list[dict[str, Any]] = [
    {"name": "made_by", "type": "string"},
    {"name": "count", "type": "int"},
    {"name": "at", "type": "long"},
    {"name": "is_new", "type": "boolean"},
    {"name": "who", "type": ["null", "string"]},
    {"name": "vector", "type": {"type": "array", "items": "float"}},
    {"name": "items", "type": {"type": "array", "items": ITEM}},
    {"name": "weight", "type": "float"},
]
RECORD = {"type": "record", "name": "Whole", "fields": FIELDS}
GIVEN = ("items", "not_in_the_schema", "who", "weight", "vector", "at", "count", "is_new")
"""Of the values, in another order than the schema's."""
WRITER = flat.FlatWriter.of(FIELDS, GIVEN, {"made_by": "us"}, item=Item.__struct_fields__)
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
FLOATS = st.floats(width=32, allow_nan=False)
VALUES = st.fixed_dictionaries(
    {
        "items": st.lists(st.builds(Item, st.just(1), SHORT, st.none() | FLOATS), max_size=70),
        "who": st.none() | SHORT,
        "weight": FLOATS,
        "vector": st.lists(FLOATS, max_size=200),
        "at": LONGS,
        "count": st.integers(-(2**31), 2**31 - 1),
        "is_new": st.booleans(),
    }
)


def written(values: dict[str, Any]) -> bytes:
    packed = b"".join(struct.pack("<f", number) for number in values["vector"])
    given_now = values | {"vector": packed, "not_in_the_schema": object()}
    encoder = BinaryEncoder()
    WRITER.write(encoder, tuple(given_now[name] for name in GIVEN))
    return encoder.to_bytes()


OTHER = ITEM | {"name": "Other"}
INNERS = record_of("long", ["null", array_of(OTHER)], array_of("float"))
NESTED: list[dict[str, Any]] = [
    *FIELDS,
    {"name": "share", "type": ["null", "float"]},
    {"name": "more", "type": ["null", array_of(INNERS)]},
    {"name": "last", "type": ["null", array_of("float")]},
]
ITEMS = st.lists(st.fixed_dictionaries({"name": SHORT, "share": st.none() | FLOATS}), max_size=5)
NUMBERS = st.lists(FLOATS, max_size=9)
INNER = st.fixed_dictionaries({"f0": st.integers(-9, 9), "f1": st.none() | ITEMS, "f2": NUMBERS})
NESTED_VALUES = st.fixed_dictionaries(
    {
        "made_by": SHORT,
        "count": st.integers(-9, 9),
        "at": st.integers(-(2**62), 2**62 - 1),
        "is_new": st.booleans(),
        "who": st.none() | SHORT,
        "vector": st.lists(FLOATS, max_size=200),
        "items": ITEMS,
        "weight": FLOATS,
        "share": st.none() | FLOATS,
        "more": st.none() | st.lists(INNER, max_size=3),
        "last": st.none() | NUMBERS,
    }
)


@settings(max_examples=200)
@given(NESTED_VALUES, st.data())
def test_arrays_of_floats_and_of_records_are_read_as_the_generic_reader_reads_them(
    record: dict[str, Any], data: st.DataObject
) -> None:
    schema = {"type": "record", "name": "Whole", "fields": NESTED}
    reader = flat.FlatReader.of(schema)
    assert reader is not None
    body = generic(schema, record)
    assert repr(reader.read(body, 0)) == repr(codec.read_with(parse_schema(schema), body))
    damaged = bytearray(body)
    damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = reader.read(bytes(damaged), 0)
    except flat.Declined:
        return
    assert repr(found) == repr(codec.read_with(parse_schema(schema), bytes(damaged)))


ONE, ZERO = b"\2", b"\0\0\0\0"
"""A count, and a number as four bytes."""


@pytest.mark.parametrize("items", ["float", record_of("float")], ids=["floats", "records"])
@pytest.mark.parametrize(
    "array",
    [ONE + ZERO + ONE + ZERO, b"\1", b"\1\x08" + ZERO, b"\xfe\xff\x01" + ZERO, ONE + ZERO[1:]],
    ids=["two blocks", "less than none", "a block with its size", "more than there is", "cut off"],
)
def test_an_array_that_is_not_one_block_is_declined(items: Any, array: bytes) -> None:
    reader = flat.FlatReader.of(record_of(array_of(items), "float"))
    assert reader is not None
    end = b"\0" + ZERO
    assert reader.values(ONE + ZERO + end, 0) == [[0.0 if items == "float" else {"f0": 0.0}], 0.0]
    for after in (b"", ZERO, end):
        with pytest.raises(flat.Declined):
            reader.values(array + after, 0)


@pytest.mark.parametrize("name", ["session_intent", "session_embedding", "visitor_intent", "user_intent"])
def test_what_the_worker_publishes_is_read_by_plan(name: codec.SchemaName) -> None:
    assert flat.FlatReader.of(codec.schema(name)) is not None


@given(VALUES)
def test_a_record_is_written_as_the_generic_writer_writes_it(values: dict[str, Any]) -> None:
    items = [{"name": item.name, "share": item.share} for item in values["items"]]
    assert written(values) == generic(RECORD, values | {"made_by": "us", "items": items})


MAY_BE_NULL = {"name": "more", "type": ["null", {"type": "array", "items": ITEM}]}


@given(st.none() | st.lists(st.builds(Item, st.just(1), SHORT, st.none() | FLOATS), max_size=70))
def test_records_may_be_null(items: list[Item] | None) -> None:
    encoder = BinaryEncoder()
    flat.FlatWriter.of([MAY_BE_NULL], ["more"], item=Item.__struct_fields__).write(encoder, (items,))
    whole = None if items is None else [{"name": each.name, "share": each.share} for each in items]
    expected = generic({**RECORD, "fields": [MAY_BE_NULL]}, {"more": whole})
    assert encoder.to_bytes() == expected
    assert flat.FieldEnds.of([MAY_BE_NULL]).end(expected, 0, 0, 1) == len(expected)


def test_each_field_with_records_is_skipped_by_records_of_its_own() -> None:
    other = {"type": "record", "name": "Other", "fields": [{"name": "n", "type": "long"}]}
    fields = [MAY_BE_NULL, {"name": "others", "type": {"type": "array", "items": other}}]
    values = {"more": [{"name": "a", "share": 0.5}], "others": [{"n": 300}, {"n": 1}]}
    body = generic({**RECORD, "fields": fields}, values)
    ends = flat.FieldEnds.of(fields)
    assert ends.end(body, ends.end(body, 0, 0, 1), 1, 2) == ends.end(body, 0, 0, 2) == len(body)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"who": "\ud800"}, UnicodeEncodeError),
        ({"at": 2**63}, OverflowError),
        ({"at": -(2**63) - 1}, OverflowError),
        ({"weight": 1e300}, OverflowError),
        ({"items": [Item(1, "\ud800", None)]}, UnicodeEncodeError),
        ({"who": b"bytes"}, (TypeError, AttributeError)),
    ],
)
def test_what_avro_cannot_hold_raises(changed: dict[str, Any], error: type[Exception]) -> None:
    values = {
        "items": [],
        "who": None,
        "weight": 0.5,
        "vector": [],
        "at": 1,
        "count": 1,
        "is_new": True,
    }
    assert written(values)
    with pytest.raises(error):
        written(values | changed)


@pytest.mark.parametrize(
    "fields",
    [
        [{"name": "nobody_gives_it", "type": "string"}],
        [{"name": "who", "type": "double"}],
        [{"name": "who", "type": {"type": "array", "items": "string"}}],
        [{"name": "who", "type": ["string", "null"]}],
    ],
)
def test_a_field_that_can_t_be_written_is_refused_by_name(fields: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=f"field {fields[0]['name']} "):
        flat.FlatWriter.of(fields, GIVEN)
