"""Avro records by a plan made of their schema, where a generic codec costs too much.

- The reader takes records of usual sizes. Anything else, be it valid or not, it declines, so that one codec
  alone decides what is refused and why.
- The writer takes values in whatever order the caller has them; the schema alone gives the order of fields.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from msgspec.structs import astuple

from streamer.schemas.binary import BinaryEncoder

_STRING, _LONG, _BOOLEAN, _DOUBLE, _MAP, _FLOAT, _FLOATS, _RECORDS = range(8)
_OPTIONAL = 8
"""Added to the kind of a field whose type is a union of null and something."""
_CONSTANT = 16
"""Kind of a field that has been encoded before."""
_KINDS: Final = {
    "string": _STRING,
    "int": _LONG,
    "long": _LONG,
    "boolean": _BOOLEAN,
    "double": _DOUBLE,
    "float": _FLOAT,
}
_WRITTEN: Final = (_STRING, _LONG, _BOOLEAN, _FLOAT, _FLOATS, _RECORDS)

_LONGEST_SHIFT = 56
"""Larger numbers, of ten bytes, could leave 64 bits."""
_DOUBLE_AT = struct.Struct("<d").unpack_from
_FLOAT_AT = struct.Struct("<f").unpack_from
_FLOAT_BYTES = 4
_NULL, _PRESENT = b"\0", b"\2"
"""The first and the second branch of a field that may be null."""
_END = b"\0"
"""A block of no items ends an array."""

Fields = Sequence[Mapping[str, Any]]


class Declined(Exception):  # noqa: N818, an outcome rather than a mistake
    """Not in the form that the reader takes; a generic codec is to judge."""


class FlatReader:
    """Reads records of one schema that holds no enums, and arrays only of floats or of such records."""

    def __init__(self, names: list[str], kinds: bytes, items: list[FlatReader | None]) -> None:
        """`items`: of each field what reads the records of its array; None: it has none."""
        self.names, self._kinds, self._items = names, kinds, items

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Self | None:
        """None if the schema has a field of another kind."""
        fields = schema["fields"]
        kinds, items = bytearray(), list[FlatReader | None]()
        for field in fields:
            kind, records = _kind(field["type"]), _items_of(field["type"])
            reader = None if records is None else cls.of(records)
            # Of items without a byte there could be any number.
            if kind is None or (records is not None and (reader is None or not reader.names)):
                return None
            kinds.append(kind)
            items.append(reader)
        return cls([field["name"] for field in fields], bytes(kinds), items)

    def values(self, data: bytes, at: int) -> list[Any]:
        """The fields from `at` to the end of the data, in the schema's order; raises Declined."""
        found: list[Any] = []
        try:
            at = self._append(found, data, at)
        except (IndexError, UnicodeDecodeError, struct.error):
            raise Declined from None
        if at != len(data):
            raise Declined
        return found

    def read(self, data: bytes, at: int) -> dict[str, Any]:
        """The same by the names of the fields."""
        return dict(zip(self.names, self.values(data, at), strict=True))

    # Nulls and short strings are looked at before any call: there are twenty fields, and calls add up.
    def _append(self, found: list[Any], data: bytes, at: int) -> int:  # noqa: C901, PLR0912, PLR0915, see above
        """The fields from `at`; returns where they end."""
        end = len(data)
        for field in range(len(self._kinds)):
            kind = self._kinds[field]
            if kind >= _OPTIONAL:
                branch = data[at]
                at += 1
                if branch == 0:
                    found.append(None)
                    continue
                if branch != 2:
                    raise Declined
                kind -= _OPTIONAL
            if kind == _STRING:
                size = data[at]
                at += 1
                if size >= 0x80:
                    more = data[at]
                    at += 1
                    if more >= 0x80:
                        raise Declined
                    size = size & 0x7F | more << 7
                start = at
                at += size >> 1
                if size & 1 or at > end:
                    raise Declined
                found.append(data[start:at].decode("utf-8"))
            elif kind == _LONG:
                number, at = _long_at(data, at)
                found.append(number)
            elif kind == _BOOLEAN:
                true, at = _boolean_at(data, at)
                found.append(true)
            elif kind == _DOUBLE:
                found.append(_DOUBLE_AT(data, at)[0])
                at += 8
            elif kind == _MAP:
                entries, at = _map_at(data, at)
                found.append(entries)
            elif kind == _FLOAT:
                found.append(_FLOAT_AT(data, at)[0])
                at += _FLOAT_BYTES
            else:
                count, at = _long_at(data, at)
                if count < 0:  # a block with its size
                    raise Declined
                if kind == _FLOATS:
                    found.append(list(struct.unpack_from(f"<{count}f", data, at)))
                    at += _FLOAT_BYTES * count
                else:
                    records: list[Any] = []
                    items = self._items[field]
                    assert items is not None
                    for _ in range(count):
                        record: dict[str, Any] = {}
                        at = items._fill(record, data, at)
                        records.append(record)
                    found.append(records)
                if count > 0:
                    if data[at] != 0:  # another block
                        raise Declined
                    at += 1
        return at

    def _fill(self, record: dict[str, Any], data: bytes, at: int) -> int:
        """The fields from `at` by their names; returns where they end."""
        found: list[Any] = []
        at = self._append(found, data, at)
        for field in range(len(self.names)):
            record[self.names[field]] = found[field]
        return at


class FieldEnds:
    """Finds where the fields of a record end, without reading them; arrays of floats and records included."""

    def __init__(self, kinds: bytes, items: list[FieldEnds | None]) -> None:
        """`items`: of each field those of the records in it, if it has any."""
        self._kinds, self._items = kinds, items

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raises ValueError for a field of another kind."""
        kinds = bytearray()
        items: list[FieldEnds | None] = []
        for field in fields:
            kind = _kind(field["type"])
            if kind is None or kind % _OPTIONAL == _MAP:
                raise ValueError(f"field {field['name']} of type {field['type']} can't be skipped")
            kinds.append(kind)
            item = _items_of(field["type"])
            items.append(None if item is None else cls.of(item["fields"]))
        return cls(bytes(kinds), items)

    def end(self, data: bytes, at: int, first: int, stop: int) -> int:
        """Of the fields from number `first` to before `stop`, which begin at `at`. Texts aren't looked into.
        Raises Declined."""
        try:
            for field in range(first, stop):
                at = self._end(field, data, at)
        except IndexError:
            raise Declined from None
        return at

    def _end(self, field: int, data: bytes, at: int) -> int:
        kind = self._kinds[field]
        if kind >= _OPTIONAL:
            if data[at] == 0:
                return at + 1
            if data[at] != 2:
                raise Declined
            at += 1
            kind -= _OPTIONAL
        if kind == _LONG:
            return _long_at(data, at)[1]
        if kind == _BOOLEAN:
            return _boolean_at(data, at)[1]
        if kind == _RECORDS:
            return self._records_end(field, data, at)
        if kind in (_FLOAT, _DOUBLE):
            at += _FLOAT_BYTES if kind == _FLOAT else 2 * _FLOAT_BYTES
        else:
            at = _sized_end(kind, data, at)
        if at > len(data):
            raise Declined
        return at

    def _records_end(self, field: int, data: bytes, at: int) -> int:
        """One block of them, or none."""
        count, at = _long_at(data, at)
        if not 0 <= count <= len(data):
            raise Declined
        if count == 0:
            return at
        items = self._items[field]
        assert items is not None
        for _ in range(count):
            at = items.end(data, at, 0, len(items._kinds))
        if data[at] != 0:
            raise Declined
        return at + 1


class FlatWriter:
    """Writes some or all fields of one schema, in its order.

    An array of float is given as its items' bytes, little-endian, and an array of records as msgspec Structs.
    """

    def __init__(self, kinds: bytes, places: bytes, constants: list[bytes], items: FlatWriter | None) -> None:
        """Of each field its kind, and its place among the values that are given or among the constants."""
        self._kinds, self._places, self._constants, self._items = kinds, places, constants, items

    @classmethod
    def of(
        cls,
        fields: Fields,
        given: Sequence[str],
        constants: Mapping[str, str] | None = None,
        item: Sequence[str] = (),
    ) -> Self:
        """`given` names the values that `write` takes, in their order, and `item` those of a record within an
        array; what no field has the name of isn't written. `constants` are texts that all records share.

        Raises ValueError for a field that is neither given nor a constant, or whose type can't be written.
        """
        kinds, places = bytearray(), bytearray()
        encoded: list[bytes] = []
        items = None
        for field in fields:
            name, kind = field["name"], _kind(field["type"])
            if constants is not None and name in constants:
                encoder = BinaryEncoder()
                encoder.write_string(constants[name])
                kinds.append(_CONSTANT)
                places.append(len(encoded))
                encoded.append(encoder.to_bytes())
                continue
            if name not in given or kind is None or kind % _OPTIONAL not in _WRITTEN:
                raise ValueError(
                    f"field {name} of type {field['type']} can't be written from {', '.join(given)}"
                )
            kinds.append(kind)
            places.append(list(given).index(name))
            if (records := _items_of(field["type"])) is not None:
                items = cls.of(records["fields"], item)
        return cls(bytes(kinds), bytes(places), encoded, items)

    def write(self, encoder: BinaryEncoder, values: tuple[Any, ...]) -> None:
        """Raises UnicodeEncodeError on text that UTF-8 can't hold, OverflowError on a number that is too
        large for its type."""
        for step in range(len(self._kinds)):
            kind, place = self._kinds[step], self._places[step]
            if kind == _CONSTANT:
                encoder.write_encoded(self._constants[place])
                continue
            value = values[place]
            if kind >= _OPTIONAL:
                if value is None:
                    encoder.write_encoded(_NULL)
                    continue
                encoder.write_encoded(_PRESENT)
                kind -= _OPTIONAL
            if kind == _STRING:
                encoder.write_string(value)
            elif kind == _LONG:
                encoder.write_long(value)
            elif kind == _BOOLEAN:
                encoder.write_boolean(value)
            elif kind == _FLOAT:
                encoder.write_float(value)
            elif kind == _FLOATS:
                self._put_floats(encoder, value)
            else:
                self._put_records(encoder, value)

    def _put_floats(self, encoder: BinaryEncoder, packed: bytes) -> None:
        if packed:
            encoder.write_long(len(packed) // _FLOAT_BYTES)
            encoder.write_encoded(packed)
        encoder.write_encoded(_END)

    def _put_records(self, encoder: BinaryEncoder, records: list[Any]) -> None:
        if records:
            encoder.write_long(len(records))
            assert self._items is not None
            for record in records:
                self._items.write(encoder, astuple(record))
        encoder.write_encoded(_END)


def _sized_end(kind: int, data: bytes, at: int) -> int:
    """Of a string, or of an array of floats in one block."""
    size, at = _long_at(data, at)
    if not 0 <= size <= len(data):
        raise Declined
    if kind == _STRING or size == 0:
        return at + size
    at += _FLOAT_BYTES * size
    if data[at] != 0:
        raise Declined
    return at + 1


def _kind(of_type: Any) -> int | None:
    """None: of no kind that is read or written here."""
    if isinstance(of_type, list):
        kind = _kind(of_type[1]) if len(of_type) == 2 and of_type[0] == "null" else None
        return None if kind is None or kind >= _OPTIONAL else kind + _OPTIONAL
    if not isinstance(of_type, dict):
        return _KINDS.get(of_type)
    if of_type["type"] == "map":
        return _MAP if of_type["values"] == "string" else None
    if of_type["type"] == "array":
        if _items_of(of_type) is not None:
            return _RECORDS
        return _FLOATS if of_type["items"] == "float" else None
    return None


def _items_of(of_type: Any) -> Mapping[str, Any] | None:
    """Of an array of records, which may be null, the record's schema."""
    if isinstance(of_type, list):
        return _items_of(of_type[-1])
    items = of_type.get("items") if isinstance(of_type, dict) else None
    return items if isinstance(items, dict) and items["type"] == "record" else None


def _long_at(data: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends."""
    byte = data[at]
    number, shift = byte & 0x7F, 0
    while byte & 0x80:
        at += 1
        shift += 7
        if shift > _LONGEST_SHIFT:
            raise Declined
        byte = data[at]
        number |= (byte & 0x7F) << shift
    return number >> 1 ^ -(number & 1), at + 1


def _boolean_at(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        raise Declined
    return data[at] == 1, at + 1


def _string_at(data: bytes, at: int) -> tuple[str, int]:
    size, start = _long_at(data, at)
    end = start + size
    if size < 0 or end > len(data):
        raise Declined
    return data[start:end].decode("utf-8"), end


def _map_at(data: bytes, at: int) -> tuple[dict[str, str], int]:
    entries = {}
    while data[at]:
        count, at = _long_at(data, at)
        if not 0 < count <= len(data):
            raise Declined
        for _ in range(count):
            key, at = _string_at(data, at)
            entries[key], at = _string_at(data, at)
    return entries, at + 1
