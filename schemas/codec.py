"""Avro in the Confluent wire format: a zero byte, a schema id (4 bytes, big-endian), the Avro body.

- Needs no schema registry: an id is derived from the schema itself (`schema_id`), so it never has to be
  handed out, and it is far above the small numbers that registries count up from.
- Decodes only what was written with a schema of this package, current or landed: a foreign writer schema
  could be recursive or explode an empty array. `read_with` reads with one that its caller has checked.
- A message is consumed to its last byte or refused. Errors carry a short `reason` and name fields of our
  schemas, never a value.
"""

from __future__ import annotations

import json
import struct
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import orjson
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form
from fastavro.validation import validate

from streamer.schemas.flat import Declined, FlatReader

SchemaName = Literal[
    "click",
    "session_embedding",
    "session_intent",
    "visitor_intent",
    "user_intent",
    "identity_link",
    "erasure",
    "lookup",
]
SCHEMA_NAMES: tuple[SchemaName, ...] = get_args(SchemaName)

MAGIC = 0
PREFIX_BYTES = 5
_PREFIX = struct.Struct(">BI")
FOLDER = Path(__file__).parent
_HOSTILE = (EOFError, IndexError, OverflowError, TypeError, ValueError)
"""What fastavro raises on bytes that are no record of the writer's schema (found by fuzzing it)."""

Record = dict[str, Any]


class CodecError(ValueError):
    """A message or a record that doesn't fit; `reason` is short and stable."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Writer(NamedTuple):
    """A schema that messages may have been written with. `reader` is None where it is the current one."""

    name: SchemaName
    schema: Any
    reader: Any
    flat: FlatReader | None = None
    """Reads most messages several times as fast; None: none can read this schema."""


def schema(name: SchemaName, folder: Path = FOLDER) -> Record:
    """The current schema as its .avsc file has it, doc strings included."""
    return _load(folder / f"{name}.avsc")


def landed(name: SchemaName, folder: Path = FOLDER) -> list[Record]:
    """All landed versions of a schema, oldest first."""
    files = (folder / "landed").glob(f"{name}.v*.avsc")
    return [_load(file) for file in sorted(files, key=lambda file: int(file.suffixes[0][2:]))]


def schema_id(definition: Record) -> int:
    """The first 31 bits of the SHA-256 of a schema's parsing canonical form.

    Doc strings and defaults don't count there: they change nothing in the bytes that are written.
    """
    digest = fingerprint(to_parsing_canonical_form(definition), "sha256")
    return int(digest[:8], 16) & 0x7FFF_FFFF


def is_own(message: bytes) -> bool:
    """Whether a message has one of our own ids."""
    return message[0] == MAGIC and len(message) > PREFIX_BYTES and _schema_id_of(message) in _writers()


def own_prefix(definition: Record) -> bytes | None:
    """What a message begins with that was written with this schema under our own id; None: it isn't ours."""
    number = schema_id(definition)
    return _PREFIX.pack(MAGIC, number) if number in _writers() else None


def encode(name: SchemaName, record: Record) -> bytes:
    """The record as a message. Fields left out take their defaults; raises CodecError if it doesn't fit."""
    return _write(prefix(name), name, record)


def encode_body(name: SchemaName, record: Record) -> bytes:
    """The Avro body alone, as digests use it: the schema id may differ where a registry gives the ids."""
    return _write(b"", name, record)


def body(message: bytes) -> bytes:
    """The Avro body of a message."""
    _schema_id_of(message)
    return message[PREFIX_BYTES:]


def decode(message: bytes) -> tuple[SchemaName, Record]:
    """The name of the schema and the record, in the shape of the current schema."""
    writer = _writer_of(message)
    if writer.flat is not None:
        try:
            return writer.name, writer.flat.read(message, PREFIX_BYTES)
        except Declined:
            pass  # the generic reader says what is wrong, if anything
    return writer.name, _read(writer, message)


def decode_values(message: bytes) -> tuple[SchemaName, list[Any]]:
    """As `decode`, but the values alone, in the order of the current schema's fields."""
    writer = _writer_of(message)
    if writer.flat is not None:
        try:
            return writer.name, writer.flat.values(message, PREFIX_BYTES)
        except Declined:
            pass
    record = _read(writer, message)
    return writer.name, [record[field] for field in _field_names(writer.name)]


def _writer_of(message: bytes) -> _Writer:
    number = _schema_id_of(message)
    writer = _writers().get(number)
    if writer is None:
        known = ", ".join(f"{number} ({writer.name})" for number, writer in _writers().items())
        raise CodecError("unknown_schema_id", f"schema id {number} is not one of ours: {known}")
    return writer


def _read(writer: _Writer, message: bytes) -> Record:
    return read_with(writer.schema, message, PREFIX_BYTES, writer.reader, writer.name)


def read_with(parsed: Any, data: bytes, at: int = 0, reader: Any = None, name: str = "registered") -> Record:
    """The record from `at` to the end of the data, by a schema that fastavro has parsed. Raises CodecError.

    `reader`: a parsed schema in whose shape it comes; none: the writer's.
    """
    stream = BytesIO(data)
    stream.seek(at)
    try:
        record: Any = schemaless_reader(stream, parsed, reader)
    except UnicodeDecodeError:
        raise CodecError("invalid_utf8", f"a string of this {name} record is not UTF-8") from None
    except EOFError:
        raise CodecError("truncated_avro", f"message ends within a {name} record") from None
    except _HOSTILE:
        raise CodecError("invalid_avro", f"bytes are no {name} record") from None
    left = len(data) - stream.tell()
    if left:
        raise CodecError("trailing_bytes", f"{left} bytes after the end of a {name} record")
    result: Record = record
    return result


def to_json(record: Record) -> bytes:
    """A decoded record as one line of JSON. Not-a-number and infinities become null."""
    return orjson.dumps(record)


def misfits(name: SchemaName, record: Record) -> list[str]:
    """Names of the fields of a record that its schema refuses, unknown ones included."""
    fields = {field["name"]: field for field in schema(name)["fields"]}
    wrong = [
        field_name
        for field_name, field in fields.items()
        if not _fits(record.get(field_name, field.get("default", ...)), field["type"])
    ]
    return wrong + sorted(record.keys() - fields.keys())


def _fits(value: object, field_type: Any) -> bool:
    if value is ...:
        return False
    return bool(validate(value, field_type, raise_errors=False, strict=True))


def _write(start: bytes, name: SchemaName, record: Record) -> bytes:
    stream = BytesIO(start)
    stream.seek(len(start))
    try:
        schemaless_writer(stream, _parsed(name), record)
    except (*_HOSTILE, AttributeError, KeyError):
        wrong = ", ".join(misfits(name, record)) or "a field"
        raise CodecError("misfit", f"record is no {name}: wrong or missing are {wrong}") from None
    return stream.getvalue()


def _schema_id_of(message: bytes) -> int:
    if len(message) < PREFIX_BYTES:
        raise CodecError("truncated_avro", f"{len(message)} bytes, expected a prefix of {PREFIX_BYTES}")
    magic, number = _PREFIX.unpack_from(message)
    if magic != MAGIC:
        raise CodecError("unsupported_magic_byte", f"first byte is {magic}, expected {MAGIC}")
    return int(number)


def _load(file: Path) -> Record:
    loaded: Record = json.loads(file.read_text(encoding="utf-8"))
    return loaded


@cache
def _parsed(name: SchemaName) -> Any:
    return parse_schema(schema(name), named_schemas={})


@cache
def _field_names(name: SchemaName) -> tuple[str, ...]:
    return tuple(field["name"] for field in schema(name)["fields"])


@cache
def prefix(name: SchemaName) -> bytes:
    """Magic byte and id that a message of the current schema starts with."""
    return _PREFIX.pack(MAGIC, schema_id(schema(name)))


@cache
def _writers() -> dict[int, _Writer]:
    """Schema id -> writer, over every version that ever landed and the current ones."""
    writers: dict[int, _Writer] = {}
    for name in SCHEMA_NAMES:
        current = schema_id(schema(name))
        for old in landed(name):
            writers[schema_id(old)] = _Writer(name, parse_schema(old, named_schemas={}), _parsed(name))
        writers[current] = _Writer(name, _parsed(name), None, FlatReader.of(schema(name)))
    return writers
