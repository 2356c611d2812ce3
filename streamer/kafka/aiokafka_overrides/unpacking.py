"""Decompression of record batches, bounded: a hostile producer may send decompression bombs.

A broker checks the size of a batch as it is packed, and a megabyte may unpack to gigabytes: aiokafka would
take all memory. A batch beyond the bound can't be read; what becomes of it is `fetched`'s.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cramjam
import numpy as np

MAX_UNPACKED_BYTES = 128 * 1024 * 1024
"""Of one batch. Clicks pack to a tenth: a batch of eight megabytes, the most that topics here take, fits."""
_GZIP = 31
"""zlib's window bits for gzip."""
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class BatchTooLargeError(Exception):
    """A batch unpacks to more than MAX_UNPACKED_BYTES, or is damaged."""


def gzip_decode(payload: Any) -> bytes:
    """All members of a gzip stream."""
    unpacked, left = io.BytesIO(), bytes(payload)
    while left:
        stream = zlib.decompressobj(_GZIP)
        unpacked.write(stream.decompress(left, MAX_UNPACKED_BYTES + 1 - unpacked.tell()))
        if stream.unconsumed_tail or unpacked.tell() > MAX_UNPACKED_BYTES:
            raise BatchTooLargeError
        left = stream.unused_data
    return unpacked.getvalue()


def lz4_decode(payload: Any) -> bytes:
    """An LZ4 frame."""
    return _into_room(cramjam.lz4.decompress_into, bytes(payload))


def zstd_decode(payload: Any) -> bytes:
    """Zstandard frames."""
    return _into_room(cramjam.zstd.decompress_into, bytes(payload))


def snappy_decode(payload: Any) -> bytes:
    """Raw snappy, or blocks of it as Java clients write them."""
    data = bytes(payload)
    if not data.startswith(_XERIAL):
        return _unsnapped(data, 0)
    unpacked, at = io.BytesIO(), _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from("!I", data, at)
        unpacked.write(_unsnapped(data[at + 4 : at + 4 + size], unpacked.tell()))
        at += 4 + size
    return unpacked.getvalue()


def _unsnapped(block: bytes, before: int) -> bytes:
    """A block says how large it is."""
    if before + int(cramjam.snappy.decompress_raw_len(block)) > MAX_UNPACKED_BYTES:
        raise BatchTooLargeError
    return bytes(cramjam.snappy.decompress_raw(block))


def _into_room(unpack_into: Any, data: bytes) -> bytes:
    """Room for the most that is allowed: the system gives memory only to what is written."""
    room = np.empty(MAX_UNPACKED_BYTES, np.uint8)
    try:
        return room[: unpack_into(data, room)].tobytes()
    except cramjam.DecompressionError:
        raise BatchTooLargeError from None
