"""Where a field stands in an Avro body, without decoding what comes after it.

Only for fields that nothing but strings, optional strings, numbers and booleans precede, which is how our
records begin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from streamer.schemas import codec


def span(name: codec.SchemaName, body: bytes, field: str) -> tuple[int, int]:
    """Where the field's bytes begin and end. Raises CodecError if the body ends before the field does."""
    begin = end = 0
    try:
        for ends in _ends(name, field):
            begin, end = end, ends(body, end)
    except IndexError:
        raise codec.CodecError("truncated_avro", f"body ends before field {field} of a {name}") from None
    return begin, end


def without(name: codec.SchemaName, body: bytes, field: str) -> bytes:
    """The body with one field's bytes cut out. Raises CodecError if it ends before the field does."""
    begin, end = span(name, body, field)
    return body[:begin] + body[end:]


def _varint_end(body: bytes, at: int) -> int:
    while body[at] & 0x80:
        at += 1
    return at + 1


def _string_end(body: bytes, at: int) -> int:
    first = body[at]
    if first < 0x80:  # as of most strings
        return at + 1 + (first >> 1)
    size, shift, begin = 0, 0, at
    while True:
        byte = body[begin]
        begin += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return begin + (size >> 1)  # lengths are zigzag encoded and never negative


def _optional_string_end(body: bytes, at: int) -> int:
    return at + 1 if body[at] == 0 else _string_end(body, at + 1)


_End = Callable[[bytes, int], int]
"""(body, where a field begins) -> where it ends"""
_END_OF: dict[str, _End] = {
    "string": _string_end,
    "optional": _optional_string_end,
    "int": _varint_end,
    "long": _varint_end,
    "boolean": lambda _, at: at + 1,
}


@cache
def _ends(name: codec.SchemaName, field: str) -> tuple[_End, ...]:
    """Of the fields up to this one."""
    fields = codec.schema(name)["fields"]
    upto = [each["name"] for each in fields].index(field) + 1
    return tuple(_end(name, each) for each in fields[:upto])


def _end(name: codec.SchemaName, field: dict[str, Any]) -> _End:
    kind = "optional" if field["type"] == ["null", "string"] else field["type"]
    if not isinstance(kind, str) or kind not in _END_OF:
        raise ValueError(f"{name}.{field['name']}: expected a string, a number or a boolean")
    return _END_OF[kind]
