"""The clicks of an open session as bytes: a log of all of them, and the fields of those that are retained.

An entry of the log is the event_id's hash (8 bytes), event time and offset (8 bytes each, little-endian). A
retained click is a MessagePack array of its fields without the nils at its end; an event_id that is a UUID in
lower case takes 16 bytes, any other is text. Both grow at their end.
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

from streamer.schemas.click import Click

_ENTRY = struct.Struct("<8sqq")
ENTRY_BYTES = 24
_HASH_BYTES = 8
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


class PackedClicks:
    """Log and retained clicks of one session."""

    __slots__ = ("_log", "_retained")

    def put(self, log: bytes, retained: bytes) -> None:
        """Have these; to be called first. Raises msgspec.ValidationError for a log cut within an entry."""
        if len(log) % ENTRY_BYTES:
            raise msgspec.ValidationError(
                f"a log of {len(log)} bytes, expected entries of {ENTRY_BYTES} bytes"
            )
        self._log, self._retained = bytearray(log), bytearray(retained)

    @property
    def log(self) -> bytes:
        return bytes(self._log)

    @property
    def retained(self) -> bytes:
        return bytes(self._retained)

    @property
    def event_count(self) -> int:
        """Entries of the log."""
        return len(self._log) // ENTRY_BYTES

    def size(self) -> int:
        """Bytes of both."""
        return len(self._log) + len(self._retained)

    def append(self, click: Click, id_hash: bytes, offset: int) -> None:
        """Log and retain one more. Raises ValueError for a hash of another size than 8 bytes."""
        self._log += pack_entry(id_hash, click.timestamp, offset)
        self._retained += pack_click(click)

    def holds(self, id_hash: bytes) -> bool:
        """Whether a click with this event_id hash is in the log."""
        found = self._log.find(id_hash)
        while found >= 0:
            if found % ENTRY_BYTES == 0:
                return True
            found = self._log.find(id_hash, found + 1)
        return False

    def unpacked(self, count: int) -> list[Click]:
        """The retained clicks, which are so many; see `decode_clicks`."""
        return decode_clicks(count, self._retained)


def pack_entry(id_hash: bytes, timestamp: int, offset: int) -> bytes:
    """One of the log. Raises ValueError for a hash of another size than 8 bytes."""
    if len(id_hash) != _HASH_BYTES:
        raise ValueError(f"an event_id hash has {len(id_hash)} bytes, expected {_HASH_BYTES}")
    return _ENTRY.pack(id_hash, timestamp, offset)


def entries(log: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(event_id hash, event time, offset) of every entry."""
    return _ENTRY.iter_unpack(log)


def pack_click(click: Click) -> bytes:
    """One that is retained."""
    row = list(_fields_of(click))
    while row[-1] is None:
        row.pop()
    if _is_uuid(click.event_id):
        row[1] = bytes.fromhex(click.event_id.replace("-", ""))
    return _encode(row)


def decode_clicks(count: int, retained: bytes | bytearray) -> list[Click]:
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
