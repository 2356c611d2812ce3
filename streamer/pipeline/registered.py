"""Records of any shape whose schema a registry has, in Confluent's wire format.

- A record becomes the JSON of its fields, and goes the way of JSON from there: our own shape, or a mapping.
- Times become ms UTC, decimals numbers, UUIDs and bytes texts. A field counts by its aliases too.
- A schema that lets a few bytes claim a great many values is refused, and so is one that refers to itself.
- Nothing is fetched here: whoever meets `UnknownSchema` fetches it, adds it, and tries again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from fastavro import parse_schema
from fastavro.read import LOGICAL_READERS

from streamer.pipeline.dead_letters import Header
from streamer.schemas import codec
from streamer.schemas.flat import Declined, FlatReader

SCHEMA_ID_HEADER = "__value_schema_id"
"""Where producers put a value's prefix that have a header for it; the value then begins with the record."""
GUID_MAGIC = 1
PREFIX_SIZES = {codec.MAGIC: codec.PREFIX_BYTES, GUID_MAGIC: 17}
"""By the first byte: an id in 4 bytes, or a GUID in 16, follows it."""

MAX_VALUES = 10_000
"""Values that a record without any list may have; nobody has so many by hand, but nested records multiply."""
MAX_NESTING = 64

_CLICK_FIELDS = frozenset(field["name"] for field in codec.schema("click")["fields"])
_MAX_INT64 = 2**63 - 1


class UnknownSchema(Exception):  # noqa: N818, a question rather than a mistake
    """A record's schema is not at hand."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__(prefix_text(prefix))
        self.prefix = prefix


class Definition(NamedTuple):
    """A schema as a registry has it."""

    kind: str
    """AVRO, JSON or PROTOBUF."""
    text: str
    references: Sequence[str] = ()
    """Definitions that it refers to, each behind those that it refers to itself."""


class RegisteredSchema:
    """Reads the records of one schema."""

    def __init__(self, definition: Definition) -> None:
        """Raises codec.CodecError for a schema that isn't read here."""
        self.own: bytes | None = None
        """Prefix of messages with this schema under our own id, if it is one of ours."""
        self._parsed: Any = None
        self._flat: FlatReader | None = None
        """Reads most records several times as fast; None: none can read this schema."""
        self._divisors: Sequence[tuple[str, int]] = ()
        """Of the flat reader's times, what makes them ms."""
        self._names: Sequence[tuple[str, str]] = ()
        if definition.kind == "AVRO":
            self._take_avro(definition)
        elif definition.kind != "JSON":
            raise codec.CodecError(f"unsupported_schema:{definition.kind.lower()}", "expected AVRO or JSON")

    def text(self, body: bytes) -> bytes:
        """The record as JSON. Raises codec.CodecError if the bytes aren't one of this schema."""
        if self._parsed is None:
            return body
        record = self._read(body)
        for alias, name in self._names:
            record[alias] = record[name]
        try:
            return orjson.dumps(record, default=_plain)
        except TypeError:
            raise codec.CodecError("invalid_avro", "a value of the record has no JSON") from None

    def _read(self, body: bytes) -> codec.Record:
        if self._flat is not None:
            try:
                record = self._flat.read(body, 0)
            except Declined:
                pass  # the generic reader says what is wrong, if anything
            else:
                for name, divisor in self._divisors:
                    if record[name] is not None:
                        record[name] //= divisor
                return record
        return codec.read_with(self._parsed, body)

    def _take_avro(self, definition: Definition) -> None:
        try:
            schema = json.loads(definition.text)
            named: dict[str, Any] = {}
            for reference in definition.references:
                parse_schema(_prepared(json.loads(reference)), named_schemas=named)
            self._parsed = parse_schema(_prepared(schema), named_schemas=named)
            _check_size(self._parsed, named)
            if isinstance(schema, dict) and schema.get("type") == "record":
                self._names = list(_aliases(schema["fields"]))
                self._take_flat(_prepared(schema["fields"]))
                if "logicalType" not in definition.text and not definition.references:
                    self.own = codec.own_prefix(schema)
        except codec.CodecError:
            raise
        except Exception as error:  # whatever fastavro says of what is no schema
            raise _unusable(error) from None

    def _take_flat(self, fields: Sequence[Mapping[str, Any]]) -> None:
        plain = [(field["name"], *_without_logical_type(field["type"])) for field in fields]
        self._flat = FlatReader.of({"fields": [{"name": name, "type": kind} for name, kind, _ in plain]})
        self._divisors = [(name, divisor) for name, _, divisor in plain if divisor != 1]


def _without_logical_type(kind: Any) -> tuple[Any, int]:
    """The type of a time or of a primitive value alone, and what its values are to be divided by."""
    if isinstance(kind, list) and len(kind) == 2 and kind[0] == "null":
        inner, divisor = _without_logical_type(kind[1])
        return ["null", inner], divisor
    if isinstance(kind, dict) and kind["type"] in ("string", "int", "long", "boolean", "double"):
        logical = str(kind.get("logicalType"))
        if "logicalType" not in kind or logical in _DIVISORS:
            return kind["type"], _DIVISORS.get(logical, 1)
    return kind, 1


def _unusable(error: Exception) -> codec.CodecError:
    return codec.CodecError(
        "unusable_schema", f"the registry's schema can't be used ({type(error).__name__})"
    )


class RegisteredSchemas:
    """The schemas that are at hand, by the prefix of the messages that were written with them."""

    def __init__(self) -> None:
        self._known: dict[bytes, RegisteredSchema | codec.CodecError] = {}

    def add(self, prefix: bytes, definition: Definition | codec.CodecError | None) -> None:
        """Take a schema in, or why it can't be read; None: the registry has none of this id."""
        try:
            if isinstance(definition, codec.CodecError):
                raise definition
            if definition is None:
                raise codec.CodecError(
                    "unknown_schema_id", f"the registry has no schema {prefix_text(prefix)}"
                )
            self._known[prefix] = RegisteredSchema(definition)
        except codec.CodecError as refused:
            self._known[prefix] = refused

    def forget(self, prefix: bytes) -> None:
        """Ask for it again when it is met again."""
        self._known.pop(prefix, None)

    def read(self, message: bytes) -> tuple[RegisteredSchema, bytes]:
        """The schema of a message, and its body. Raises UnknownSchema and codec.CodecError."""
        size = PREFIX_SIZES[message[0]]
        if len(message) < size:
            raise codec.CodecError("truncated_avro", f"{len(message)} bytes, expected a prefix of {size}")
        prefix = message[:size]
        found = self._known.get(prefix)
        if found is None:
            raise UnknownSchema(prefix)
        if isinstance(found, codec.CodecError):
            raise found
        return found, message[size:]

    def own(self, message: bytes) -> bytes:
        """The message under our own id, if its schema is one of ours; else as it is. Raises UnknownSchema."""
        if not message or message[0] not in PREFIX_SIZES or codec.is_own(message):
            return message
        try:
            schema, body = self.read(message)
        except codec.CodecError:
            return message
        return message if schema.own is None else schema.own + body


def with_prefix(value: bytes | None, headers: Sequence[Header]) -> bytes | None:
    """The value behind the prefix that a header has of it, if one does."""
    if value is not None:
        for name, content in headers:
            if name == SCHEMA_ID_HEADER and content:
                return content + value
    return value


def prefix_text(prefix: bytes) -> str:
    """As people write it: a number, or a GUID."""
    if prefix[0] == GUID_MAGIC:
        return str(UUID(bytes=prefix[1:]))
    return str(int.from_bytes(prefix[1:], "big"))


def _aliases(fields: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Fields of ours that a record has under other names, and those names."""
    names = {field["name"] for field in fields}
    for field in fields:
        for alias in field.get("aliases", ()):
            if alias in _CLICK_FIELDS - names:
                yield alias, field["name"]


def _plain(value: object) -> object:
    """What JSON has in place of it."""
    if isinstance(value, Decimal):
        whole = isfinite(value) and value == value.to_integral_value() and abs(value) <= _MAX_INT64
        return int(value) if whole else float(value)
    if isinstance(value, bytes):
        return value.decode("latin-1")  # as in Avro's own JSON
    raise TypeError


_LOGICAL: Mapping[tuple[str, str], str | None] = {
    ("long", "timestamp-millis"): None,
    ("long", "timestamp-micros"): "click-micros",
    ("long", "timestamp-nanos"): "click-nanos",
    ("string", "uuid"): None,
    ("fixed", "uuid"): "click-uuid",
}
"""Logical types that are read otherwise than by fastavro: whole, whatever their range; None: as they are."""

_DIVISORS = {"click-micros": 1000, "click-nanos": 1_000_000}

_Reader = Callable[[Any, Any, Any], Any]
_READERS: Mapping[str, _Reader] = {
    "long-click-micros": lambda value, *_: value // _DIVISORS["click-micros"],
    "long-click-nanos": lambda value, *_: value // _DIVISORS["click-nanos"],
    "fixed-click-uuid": lambda value, *_: str(UUID(bytes=value)),
}
LOGICAL_READERS.update(_READERS)  # where fastavro looks for logical types of one's own


def _prepared(schema: Any) -> Any:
    """With the names of logical types that `_LOGICAL` has."""
    if isinstance(schema, list):
        return [_prepared(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # Defaults are data, and serve readers of other versions only.
    prepared = {key: _prepared(value) for key, value in schema.items() if key != "default"}
    kind = (str(schema.get("type")), str(schema.get("logicalType")))
    if kind in _LOGICAL:
        del prepared["logicalType"]
        if (name := _LOGICAL[kind]) is not None:
            prepared["logicalType"] = name
    return prepared


def _check_size(schema: Any, named: Mapping[str, Any]) -> None:
    if _Sizes(named).of(schema, 0)[1] > MAX_VALUES:
        raise codec.CodecError("unusable_schema", f"a record may have more than {MAX_VALUES} values")


class _Sizes:
    """How few bytes and how many values a value of a schema may have. Lists count as one value."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, schema: Any, depth: int) -> tuple[int, int]:
        """Raises codec.CodecError for a schema that can't be read safely."""
        if depth > MAX_NESTING:
            raise codec.CodecError(
                "unusable_schema", f"it is nested more than {MAX_NESTING} levels deep, or in itself"
            )
        if isinstance(schema, list):
            branches = [self.of(each, depth + 1) for each in schema]
            return 1, max((values for _, values in branches), default=1)
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, (dict, list)):
            return self.of(kind, depth + 1)
        if kind == "null":
            return 0, 1
        if kind in ("record", "error"):
            return self._of_record(schema, depth)
        if kind == "fixed":
            return min(schema["size"], 1), 1
        if kind in ("array", "map"):
            size, values = self.of(schema["items" if kind == "array" else "values"], depth + 1)
            if kind == "array" and size == 0:
                raise codec.CodecError("unusable_schema", "a list's items may take no bytes")
            return 1, values
        if kind in self._named:
            return self.of(self._named[kind], depth + 1)
        return 1, 1

    def _of_record(self, schema: Any, depth: int) -> tuple[int, int]:
        name = schema["name"]
        if name not in self._known:
            sizes = [self.of(field["type"], depth + 1) for field in schema["fields"]]
            self._known[name] = sum(size for size, _ in sizes), 1 + sum(values for _, values in sizes)
        return self._known[name]
