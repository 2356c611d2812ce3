"""Records whose schema a registry has come to the clicks that they are."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import ClickDecoder, Rejected
from streamer.pipeline.mapping.plan import CompiledMapping
from streamer.pipeline.mapping.spec import read_mapping
from streamer.pipeline.partition import Partition, PartitionPolicy
from streamer.pipeline.registered import (
    MAX_VALUES,
    Definition,
    RegisteredSchema,
    RegisteredSchemas,
    UnknownSchema,
    prefix_text,
    with_prefix,
)
from streamer.replay.sources import LogRecord
from streamer.schemas import codec
from streamer.schemas.click import Click

NOW_MS = 1_795_046_400_123
ID = b"\0\0\0\0\7"
GUID = uuid.UUID("89791762-2336-186f-9674-988a1f6ab76b")
REQUIRED = [
    {"name": "visitor_id", "type": "string"},
    {"name": "timestamp", "type": "long"},
    {"name": "event_type", "type": "string"},
]


def record_of(*fields: dict[str, Any], name: str = "WebEvent") -> dict[str, Any]:
    """A schema with these fields, which win over the required ones of the same name."""
    given_names = {field["name"] for field in fields}
    return {
        "type": "record",
        "name": name,
        "namespace": "com.shop",
        "fields": [*fields, *(field for field in REQUIRED if field["name"] not in given_names)],
    }


def body_of(schema: Any, record: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue()


def decoder_of(
    schema: Any, prefix: bytes = ID, kind: str = "AVRO", references: tuple[str, ...] = (), **options: Any
) -> ClickDecoder:
    registered = RegisteredSchemas()
    registered.add(prefix, Definition(kind, json.dumps(schema), references))
    return ClickDecoder(registered=registered, **options)


def click_of(schema: Any, **values: Any) -> Click:
    record = {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "page_view"} | values
    arrived = decoder_of(schema).decode(ID + body_of(schema, record), NOW_MS, "")
    assert arrived is not None
    assert arrived.visitor_id == "v1"
    return arrived.click


def refusal_of(decoder: ClickDecoder, value: bytes) -> str:
    with pytest.raises(Rejected) as refused:
        decoder.decode(value, NOW_MS, "")
    return refused.value.reason


def reason_of(schema: Any, **options: Any) -> str:
    """Why no record of the schema is read."""
    with pytest.raises(codec.CodecError) as refused:
        RegisteredSchema(Definition(options.pop("kind", "AVRO"), json.dumps(schema), **options))
    return refused.value.reason


def test_fields_count_by_their_names_in_any_order_and_others_dont_count() -> None:
    schema = record_of(
        {"name": "event_type", "type": "string"},
        {"name": "basket", "type": {"type": "array", "items": "string"}},
        {"name": "category", "type": ["null", "string"], "default": None},
    )
    click = click_of(schema, event_type="click", basket=["a", "b"], category="loans")
    assert (click.event_type, click.category, click.timestamp) == ("click", "loans", NOW_MS)


def test_a_field_counts_by_an_alias_but_not_against_a_field_of_that_name() -> None:
    aliased = record_of({"name": "kind_of_page", "aliases": ["page", "page_type"], "type": "string"})
    assert click_of(aliased, kind_of_page="home").page_type == "home"
    both = record_of(
        {"name": "kind", "aliases": ["page_type"], "type": "string"}, {"name": "page_type", "type": "string"}
    )
    assert click_of(both, kind="wrong", page_type="home").page_type == "home"


def timestamp_of(logical: str, value: int) -> int:
    schema = record_of({"name": "timestamp", "type": {"type": "long", "logicalType": logical}})
    # Written as the plain number that it is: fastavro would want a time for some and not for others.
    plain = record_of({"name": "timestamp", "type": "long"})
    written = body_of(plain, {"visitor_id": "v1", "timestamp": value, "event_type": "click"})
    arrived = decoder_of(schema).decode(ID + written, NOW_MS, "")
    assert arrived is not None
    return arrived.click.timestamp


@given(st.integers(-(2**63) // 1000, (2**63 - 1) // 1000))
def test_times_are_ms_whatever_their_unit(at: int) -> None:
    assert timestamp_of("timestamp-millis", at) == at
    assert timestamp_of("timestamp-micros", at * 1000 + 999 if at < 2**63 // 1000 - 1 else at * 1000) == at


def test_nanoseconds_are_ms_too() -> None:
    assert timestamp_of("timestamp-nanos", NOW_MS * 1_000_000 + 5) == NOW_MS


def test_a_time_of_no_zone_is_refused_as_text_without_an_offset_is() -> None:
    with pytest.raises(Rejected, match="missing_offset:timestamp"):
        timestamp_of("local-timestamp-millis", NOW_MS)


def test_decimals_are_numbers_and_uuids_texts() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    schema = record_of(
        {"name": "price", "type": ["null", decimal]},
        {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
    )
    click = click_of(schema, price=Decimal("19.90"), event_id=str(GUID))
    assert (click.price, click.event_id) == (19.9, str(GUID))
    # A producer's text that is no UUID is an id like any other.
    plain = record_of({"name": "price", "type": ["null"]}, {"name": "event_id", "type": "string"})
    record = {"visitor_id": "v1", "timestamp": 5, "event_type": "click", "event_id": "no-uuid"}
    arrived = decoder_of(schema).decode(ID + body_of(plain, record), NOW_MS, "")
    assert arrived is not None
    assert arrived.click.event_id == "no-uuid"


def test_unions_of_several_types_and_enums_are_what_the_record_has() -> None:
    kinds = {"type": "enum", "name": "Kind", "symbols": ["page_view", "click"]}
    schema = record_of(
        {"name": "event_type", "type": kinds}, {"name": "price", "type": ["null", "string", "long", "double"]}
    )
    assert click_of(schema, event_type="click", price=7).price == 7.0
    assert click_of(schema, event_type="click", price=None).price is None
    written = body_of(schema, {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click", "price": "7"})
    assert refusal_of(decoder_of(schema), ID + written) == "wrong_type:price"


def test_a_field_of_bytes_is_no_reason_to_refuse_a_click() -> None:
    schema = record_of(
        {"name": "checksum", "type": "bytes"},
        {"name": "sum", "type": {"type": "fixed", "name": "F", "size": 2}},
    )
    assert click_of(schema, checksum=b"\xff\0", sum=b"\xfe\xff").timestamp == NOW_MS


KINDS: list[tuple[Any, st.SearchStrategy[Any], Callable[[Any], Any]]] = [
    ("string", st.text(max_size=200), lambda value: value),
    ({"type": "string", "avro.java.string": "String"}, st.text(), lambda value: value),
    ("int", st.integers(-(2**31), 2**31 - 1), lambda value: value),
    ("long", st.integers(-(2**63), 2**63 - 1), lambda value: value),
    ("boolean", st.booleans(), lambda value: value),
    ("double", st.floats(allow_nan=False, allow_infinity=False), lambda value: value),
    (
        {"type": "map", "values": "string"},
        st.dictionaries(st.text(), st.text(), max_size=3),
        lambda value: value,
    ),
    (
        {"type": "long", "logicalType": "timestamp-micros"},
        st.integers(-(2**60), 2**60),
        lambda value: value // 1000,
    ),
    ({"type": "array", "items": "long"}, st.lists(st.integers(-9, 9), max_size=3), lambda value: value),
]


@given(st.data())
def test_records_come_whole_whatever_their_fields(data: st.DataObject) -> None:
    """With fields that the flat reader takes, and with some that it doesn't."""
    fields, record, expected = [], {}, {}
    for number, (kind, values, comes_as) in enumerate(
        data.draw(st.lists(st.sampled_from(KINDS), min_size=1))
    ):
        optional, value = data.draw(st.booleans()), data.draw(values)
        fields.append({"name": f"f{number}", "type": ["null", kind] if optional else kind})
        record[f"f{number}"] = None if optional and data.draw(st.booleans()) else value
        expected[f"f{number}"] = None if record[f"f{number}"] is None else comes_as(value)
    schema = {"type": "record", "name": "R", "fields": fields}
    plain = json.loads(json.dumps(schema).replace('"logicalType": "timestamp-micros"', '"doc": "plain"'))
    found = RegisteredSchema(Definition("AVRO", json.dumps(schema)))
    assert json.loads(found.text(body_of(plain, record))) == expected


def test_a_schema_may_refer_to_others() -> None:
    page = {"type": "record", "name": "com.shop.Page", "fields": [{"name": "title", "type": "string"}]}
    event = record_of({"name": "page", "type": "com.shop.Page"})
    named: dict[str, Any] = {}
    fastavro.parse_schema(page, named)
    stream = io.BytesIO()
    record = {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click", "page": {"title": "Loans"}}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(event, named), record)
    found = RegisteredSchema(Definition("AVRO", json.dumps(event), [json.dumps(page)]))
    assert orjson.loads(found.text(stream.getvalue()))["page"] == {"title": "Loans"}


@pytest.mark.parametrize("version", codec.landed("click"))
def test_our_own_schema_is_read_as_under_our_own_id(version: dict[str, Any]) -> None:
    record = {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click", "price": float("nan")}
    own = codec.encode("click", record)
    decoder = decoder_of(version)
    assert decoder.decode(ID + own[5:], NOW_MS, "") == decoder.decode(own, NOW_MS, "")


def test_logical_types_make_another_schema_of_ours() -> None:
    micros = codec.schema("click")
    micros["fields"][1]["type"] = {"type": "long", "logicalType": "timestamp-micros"}
    body = codec.encode_body("click", {"visitor_id": "v1", "timestamp": NOW_MS * 1000, "event_type": "click"})
    arrived = decoder_of(micros).decode(ID + body, NOW_MS, "")
    assert arrived is not None
    assert arrived.click.timestamp == NOW_MS


def test_records_of_a_json_schema_are_json() -> None:
    text = b'{"visitor_id":"v1","timestamp":"2026-11-18T12:00:00Z","event_type":"click"}'
    decoder = decoder_of({"type": "object"}, kind="JSON")
    assert decoder.decode(ID + text, NOW_MS, "") == ClickDecoder().decode(text, NOW_MS, "")
    assert refusal_of(decoder, ID + b'{"visitor_id":') == "invalid_json"
    only_json = decoder_of({"type": "object"}, kind="JSON", format="json")
    assert only_json.decode(ID + text, NOW_MS, "") == ClickDecoder().decode(text, NOW_MS, "")


SHOP = """
[fields]
visitor_id = "cookie.id"
timestamp = { from = "occurred", unit = "ms" }
[[event]]
type = "what"
"""


@pytest.mark.parametrize("logical", ["timestamp-millis", "timestamp-micros"])
def test_a_record_of_another_shape_goes_through_a_mapping(logical: str) -> None:
    def shop(at: Any) -> dict[str, Any]:
        cookie = {"type": "record", "name": "Cookie", "fields": [{"name": "id", "type": "string"}]}
        fields = [{"name": "cookie", "type": ["null", cookie]}, {"name": "occurred", "type": at}]
        return {"type": "record", "name": "Shop", "fields": [*fields, {"name": "what", "type": "string"}]}

    at = NOW_MS * (1000 if "micros" in logical else 1)
    body = body_of(shop("long"), {"cookie": {"id": "v1"}, "occurred": at, "what": "click"})
    mapping = CompiledMapping(read_mapping(SHOP, "shop"))
    decoder = decoder_of(shop({"type": "long", "logicalType": logical}), read=mapping.read)
    arrived = decoder.decode(ID + body, NOW_MS, "")
    assert arrived is not None
    assert (arrived.visitor_id, arrived.click.timestamp, arrived.click.event_type) == ("v1", NOW_MS, "click")


@pytest.mark.parametrize("schema", [record_of({"name": "consent", "type": "boolean"}), codec.schema("click")])
def test_a_click_without_consent_is_filtered_whatever_else_is_wrong_with_it(schema: dict[str, Any]) -> None:
    record = {"visitor_id": "", "timestamp": NOW_MS, "event_type": "", "consent": False}
    assert decoder_of(schema).decode(ID + body_of(schema, record), NOW_MS, "") is None


def test_consent_of_another_type_is_heeded_as_in_json() -> None:
    schema = record_of({"name": "consent", "type": "string"})
    record = {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click", "consent": "denied"}
    assert decoder_of(schema).decode(ID + body_of(schema, record), NOW_MS, "") is None


def test_a_record_that_is_no_click_is_refused_by_the_field_that_it_lacks() -> None:
    schema = {"type": "record", "name": "Order", "fields": [{"name": "visitor_id", "type": "string"}]}
    assert refusal_of(decoder_of(schema), ID + b"\2v") == "missing_field:timestamp"
    assert refusal_of(decoder_of("string"), ID + b"\2v") == "not_an_object"


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda body: body[:-1], "truncated_avro"),
        (lambda body: body + b"\0", "trailing_bytes"),
        (lambda body: b"\4\xff\xfe" + body[3:], "invalid_utf8"),
    ],
)
def test_bytes_that_are_no_record_of_the_schema_are_refused(
    cut: Callable[[bytes], bytes], reason: str
) -> None:
    body = body_of(record_of(), {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click"})
    assert refusal_of(decoder_of(record_of()), ID + cut(body)) == reason


def nested(levels: int) -> dict[str, Any]:
    """Records that hold ten of the next kind each."""
    inner: Any = "null"
    for level in range(levels):
        kind = {"type": "record", "name": f"L{level}", "fields": [{"name": "f0", "type": inner}]}
        others = [{"name": f"f{n}", "type": f"L{level - 1}" if level else "null"} for n in range(1, 10)]
        kind["fields"] = [*kind["fields"], *others]  # type: ignore[misc, list-item]
        inner = kind
    assert isinstance(inner, dict)
    return inner


DEEP: Any = "string"
for _ in range(100):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
        {"type": "array", "items": {"type": "fixed", "name": "N", "size": 0}},
        record_of({"name": "next", "type": ["null", "com.shop.WebEvent"]}),
        nested(5),
        DEEP,
        {"type": "record", "name": "R"},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "Unheard"}]},
        {"type": "unheard"},
        7,
        None,
    ],
)
def test_a_schema_that_costs_more_than_its_bytes_or_is_none_is_refused(schema: Any) -> None:
    assert reason_of(schema) == "unusable_schema"


def test_a_schema_of_many_fields_is_read() -> None:
    assert MAX_VALUES > 1111
    assert RegisteredSchema(Definition("AVRO", json.dumps(nested(3)))).text(b"")


def test_protobuf_is_refused_by_its_name() -> None:
    assert reason_of("", kind="PROTOBUF") == "unsupported_schema:protobuf"


def test_an_id_is_asked_for_once_and_again_after_it_was_forgotten() -> None:
    registered = RegisteredSchemas()
    decoder = ClickDecoder(registered=registered)
    with pytest.raises(UnknownSchema) as unknown:
        decoder.decode(ID + b"body", NOW_MS, "")
    assert unknown.value.prefix == ID
    registered.add(ID, None)
    assert refusal_of(decoder, ID + b"body") == "unknown_schema_id"
    registered.forget(ID)
    with pytest.raises(UnknownSchema):
        decoder.decode(ID + b"body", NOW_MS, "")


@pytest.mark.parametrize("value", [b"\0", b"\0\0\0\0", b"\1" + bytes(15)])
def test_less_than_a_prefix_is_refused(value: bytes) -> None:
    assert refusal_of(decoder_of(record_of()), value) == "truncated_avro"


def test_people_read_numbers_and_guids() -> None:
    assert prefix_text(ID) == "7"
    assert prefix_text(b"\1" + GUID.bytes) == str(GUID)


def partition_with(registered: RegisteredSchemas, *, has_registry: bool = True) -> Partition:
    decode = ClickDecoder(registered=registered if has_registry else None).decode
    policy = PartitionPolicy(whole=with_prefix if has_registry else None)
    return Partition("clicks", 0, Sessionizer(SessionRules()), decode, policy=policy)


def log_record(offset: int, value: bytes, *headers: tuple[str, bytes]) -> LogRecord:
    return LogRecord(offset, NOW_MS + offset, b"v1", value, headers)


BODY = body_of(record_of(), {"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click"})
JSON = orjson.dumps({"visitor_id": "v1", "timestamp": NOW_MS, "event_type": "click"})


@pytest.mark.parametrize("prefix", [ID, b"\1" + GUID.bytes])
@pytest.mark.parametrize("in_header", [False, True])
def test_a_partition_goes_on_at_the_record_whose_schema_was_not_at_hand(
    prefix: bytes, in_header: bool
) -> None:
    registered = RegisteredSchemas()
    partition = partition_with(registered)
    written = (
        log_record(1, BODY, ("__value_schema_id", prefix)) if in_header else log_record(1, prefix + BODY)
    )
    records = [log_record(0, JSON), written, log_record(2, JSON)]
    for _ in range(2):
        with pytest.raises(UnknownSchema):
            partition.process(records)
        assert (partition.position, partition.counters.received) == (1, 1)
    registered.add(prefix, Definition("AVRO", json.dumps(record_of())))
    assert partition.process(records) == 3
    assert (partition.position, partition.counters.received, partition.counters.dead_lettered) == (3, 3, 0)
    assert partition.drain()
    (session,) = partition.take().sessions
    assert session.event_count == 3


def test_without_a_registry_a_header_says_nothing() -> None:
    partition = partition_with(RegisteredSchemas(), has_registry=False)
    partition.process([log_record(0, JSON, ("__value_schema_id", b"\1" + GUID.bytes))])
    assert partition.counters.dead_lettered == 0


def test_a_dead_letter_is_the_record_as_it_came() -> None:
    registered = RegisteredSchemas()
    registered.add(ID, Definition("AVRO", json.dumps(record_of())))
    partition = partition_with(registered)
    partition.process([log_record(0, BODY[:-1], ("__value_schema_id", ID))])
    (letter,) = partition.take().dead
    assert letter.value == BODY[:-1]
    assert ("__value_schema_id", ID) in letter.headers
    assert letter.reason == "truncated_avro"
