"""The clicks of an open session as bytes: a log of all of them, and the fields of those that are retained.

An entry of the log is the event_id's hash (8 bytes), event time and offset (8 bytes each, little-endian). A
retained click is a MessagePack array of its fields without the nils at its end; an event_id that is a UUID in
lower case takes 16 bytes, any other is text. Both grow at their end only.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, get_type_hints
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from schemas.click import Click

_ENTRY = struct.Struct("<8sqq")
ENTRY_BYTES = 24
_UUID_BYTES = 16
_TYPES = get_type_hints(Click) | {"event_id": Any}
_Row = msgspec.defstruct(
    "_Row",
    [(each.name, _TYPES[each.name], *([] if each.default is MISSING else [None])) for each in fields(Click)],
    array_like=True,
    gc=False,
)
_fields_of = attrgetter(*_TYPES)
_is_uuid = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Row]).decode  # type: ignore[valid-type]


def append_entry(log: bytes, id_hash: bytes, timestamp: int, offset: int) -> bytes:
    """The log with one more entry."""
    return log + _ENTRY.pack(id_hash, timestamp, offset)


def entries(log: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(event_id hash, event time, offset) of every entry."""
    return _ENTRY.iter_unpack(log)


def holds(log: bytes, id_hash: bytes) -> bool:
    """Whether an entry has this event_id hash."""
    found = log.find(id_hash)
    while found >= 0:
        if found % ENTRY_BYTES == 0:
            return True
        found = log.find(id_hash, found + 1)
    return False


def append_click(retained: bytes, click: Click) -> bytes:
    """The retained clicks with one more."""
    row = list(_fields_of(click))
    while row[-1] is None:
        row.pop()
    if _is_uuid(click.event_id):
        row[1] = bytes.fromhex(click.event_id.replace("-", ""))
    return retained + _encode(row)


def decode_clicks(count: int, retained: bytes) -> list[Click]:
    """So many retained clicks; also such as have all their nils, or every event_id as text.

    Raises msgspec.DecodeError or UnicodeDecodeError if the bytes are not that.
    """
    return [_click(*astuple(row)) for row in _decode(b"\xdd" + count.to_bytes(4, "big") + retained)]


def _click(timestamp: int, event_id: object, *others: Any) -> Click:
    if isinstance(event_id, bytes) and len(event_id) == _UUID_BYTES:
        event_id = str(UUID(bytes=event_id))
    if not isinstance(event_id, str):
        raise msgspec.DecodeError("the event_id of a retained click is neither text nor a UUID")
    return Click(timestamp, event_id, *others)
