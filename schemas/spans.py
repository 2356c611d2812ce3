"""Where a field stands in an Avro body, without decoding what comes after it.

Only for fields that nothing but strings, optional strings, numbers and booleans precede, which is how our
records begin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from schemas import codec


def without(name: codec.SchemaName, body: bytes, field: str) -> bytes:
    """The body with one field's bytes cut out. Raises CodecError if it ends before the field does."""
    try:
        at = 0
        for kind in _kinds_before(name, field):
            at = _SKIP[kind](body, at)
        end = _SKIP[_kind(name, field)](body, at)
    except IndexError:
        raise codec.CodecError("truncated_avro", f"body ends before field {field} of a {name}") from None
    return body[:at] + body[end:]


def _varint_end(body: bytes, at: int) -> int:
    while body[at] & 0x80:
        at += 1
    return at + 1


def _string_end(body: bytes, at: int) -> int:
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


_SKIP: dict[str, Callable[[bytes, int], int]] = {
    "string": _string_end,
    "optional": _optional_string_end,
    "int": _varint_end,
    "long": _varint_end,
    "boolean": lambda _, at: at + 1,
}


@cache
def _kinds_before(name: codec.SchemaName, field: str) -> tuple[str, ...]:
    names = [each["name"] for each in codec.schema(name)["fields"]]
    return tuple(_kind(name, before) for before in names[: names.index(field)])


@cache
def _kind(name: codec.SchemaName, field: str) -> str:
    kind: Any = next(f["type"] for f in codec.schema(name)["fields"] if f["name"] == field)
    kind = "optional" if kind == ["null", "string"] else kind
    if not isinstance(kind, str) or kind not in _SKIP:
        raise ValueError(f"{name}.{field}: expected a string, a number or a boolean")
    return kind
