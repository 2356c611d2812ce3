"""A click as an open session keeps it: MessagePack, no longer than it has to be.

It is the click's array without the nils at its end. An event_id that is a UUID in lower case is kept as its
16 bytes, any other as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import astuple

from schemas.click import Click

Decode = Callable[[int, bytes], list[Click]]
_is_uuid = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode


def encode_click(click: Click) -> bytes:
    """One click, to be kept after others."""
    fields = list(astuple(click))
    while fields[-1] is None:
        fields.pop()
    if _is_uuid(click.event_id):
        fields[1] = bytes.fromhex(click.event_id.replace("-", ""))
    return _encode(fields)


def decode_clicks(count: int, kept: bytes) -> list[Click]:
    """So many clicks, one after the other; also such as were kept with all nils and with every id as text."""
    rows = _decode(b"\xdd" + count.to_bytes(4, "big") + kept)
    for row in rows:
        match row:
            case [_, bytes(packed), *_] if len(packed) == 16:
                row[1] = _uuid(packed)
    return msgspec.convert(rows, list[Click])


def _uuid(packed: bytes) -> str:
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
