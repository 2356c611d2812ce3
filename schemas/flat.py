"""Avro by hand where a generic codec costs too much: reading clicks, writing the records of sessions.

- The reader takes flat records of usual sizes. Anything else, be it valid or not, it declines, so that one
  codec alone decides what is refused and why.
- The writer's functions give the bytes of single values; whoever joins them keeps the schema's order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

try:
    from schemas.flat_values import FlatValues
except ImportError:  # it couldn't be built
    FlatValues = None  # type: ignore[assignment,misc]

_KINDS: Final = {"string": 0, "long": 1, "boolean": 2, "double": 3, "map": 4}
_STRING, _LONG, _BOOLEAN, _DOUBLE, _MAP = range(5)
_OPTIONAL = 8
"""Added to the kind of a field whose type is a union of null and something."""
_LONGEST_SHIFT = 56
"""Larger numbers, of ten bytes, could leave 64 bits."""
_DOUBLE_AT = struct.Struct("<d").unpack_from
_PAIRS: Final = [bytes((0x80 | n & 0x7F, 0x80 | n >> 7)) for n in range(1 << 14)]
_LAST: Final = [bytes((n,)) for n in range(1 << 7)] + [
    bytes((0x80 | n & 0x7F, n >> 7)) for n in range(1 << 7, 1 << 14)
]

_FLOAT = struct.Struct("<f").pack
_END: Final = b"\0"
"""A block of no items ends an array."""

NULL: Final = b"\0"
"""The first branch of an optional field."""
PRESENT: Final = b"\2"
"""The second one; the value follows."""
FALSE_TRUE: Final = (b"\0", b"\1")


def long(number: int) -> bytes:
    """An int or a long: zigzag, then seven bits a byte, lowest first. Raises OverflowError beyond 64 bits."""
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError("an Avro long has 64 bits")
    rest, written = number << 1 ^ number >> 63, b""
    while rest >= 1 << 14:
        written += _PAIRS[rest & 0x3FFF]
        rest >>= 14
    return written + _LAST[rest]


def string(text: str) -> bytes:
    """Raises UnicodeEncodeError on text that UTF-8 can't hold."""
    encoded = text.encode()
    size = len(encoded)
    return (_LAST[size << 1] if size < 1 << 13 else long(size)) + encoded


def optional_string(text: str | None) -> bytes:
    return NULL if text is None else PRESENT + string(text)


def float32(number: float) -> bytes:
    return _FLOAT(number)


def optional_float32(number: float | None) -> bytes:
    return NULL if number is None else PRESENT + _FLOAT(number)


def array(count: int, items: bytes) -> bytes:
    """`count` items that are encoded end to end."""
    return long(count) + items + _END if count else _END


class Declined(Exception):  # noqa: N818, an outcome rather than a mistake
    """Not in the form that the reader takes; a generic codec is to judge."""


class FlatReader:
    """Reads records of one schema whose fields hold no records, arrays or enums."""

    def __init__(self, names: list[str], kinds: list[int]) -> None:
        self.names, self._kinds = names, kinds
        if FlatValues is not None:
            self.values = FlatValues(kinds, Declined).values  # type: ignore[method-assign]

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Self | None:
        """None if the schema has a field of another kind."""
        kinds = [_kind(field["type"]) for field in schema["fields"]]
        known = [kind for kind in kinds if kind is not None]
        return cls([field["name"] for field in schema["fields"]], known) if len(known) == len(kinds) else None

    # Long, with nulls and short strings looked at before any call: there are twenty fields, and calls add up.
    def values(self, data: bytes, at: int) -> list[Any]:
        """The fields from `at` to the end of the data, in the schema's order; raises Declined."""
        found: list[Any] = []
        add = found.append
        try:
            for kind in self._kinds:
                if kind >= _OPTIONAL:
                    branch = data[at]
                    at += 1
                    if not branch:
                        add(None)
                        continue
                    if branch != 2:
                        raise Declined
                if kind & 7 == _STRING:
                    size = data[at]
                    at += 1
                    if size & 0x80 and data[at] < 0x80:
                        size += (data[at] - 1) << 7
                        at += 1
                    elif size & 0x80:
                        raise Declined
                    if size & 1:
                        raise Declined
                    start = at
                    at += size >> 1
                    add(data[start:at].decode())
                else:
                    value, at = _READ[kind & 7](data, at)
                    add(value)
        except (IndexError, UnicodeDecodeError, struct.error):
            raise Declined from None
        if at != len(data):
            raise Declined
        return found

    def read(self, data: bytes, at: int) -> dict[str, Any]:
        """The same by the names of the fields."""
        return dict(zip(self.names, self.values(data, at), strict=True))


def _kind(of_type: Any) -> int | None:
    if isinstance(of_type, list):
        kind = _kind(of_type[1]) if len(of_type) == 2 and of_type[0] == "null" else None
        return None if kind is None or kind >= _OPTIONAL else kind + _OPTIONAL
    if isinstance(of_type, dict) and of_type != {"type": "map", "values": "string"}:
        return None
    return _KINDS["map"] if isinstance(of_type, dict) else _KINDS.get(of_type)


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


def _string_at(data: bytes, at: int) -> tuple[str, int]:
    size, start = _long_at(data, at)
    end = start + size
    if size < 0 or end > len(data):
        raise Declined
    return data[start:end].decode(), end


def _boolean_at(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        raise Declined
    return data[at] == 1, at + 1


def _double_at(data: bytes, at: int) -> tuple[float, int]:
    return _DOUBLE_AT(data, at)[0], at + 8


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


_READ: Final[dict[int, Callable[[bytes, int], tuple[Any, int]]]] = {
    _LONG: _long_at,
    _BOOLEAN: _boolean_at,
    _DOUBLE: _double_at,
    _MAP: _map_at,
}
