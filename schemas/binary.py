"""Avro's binary encoding of single values, put end to end; `binary.pyx` does the same in C."""

from __future__ import annotations

import struct

_FLOAT = struct.Struct("<f").pack


def part(encoded: bytes, start: int, end: int) -> bytes:
    """Of bytes that hold more, those from `start` to before `end`. Raises ValueError."""
    if not 0 <= start <= end <= len(encoded):
        raise ValueError(f"expected places of 0 to {len(encoded)} bytes, found {start} and {end}")
    return encoded[start:end]


class BinaryEncoder:
    """What has been written so far."""

    def __init__(self) -> None:
        self._data = bytearray()

    def to_bytes(self) -> bytes:
        return bytes(self._data)

    def size(self) -> int:
        """In bytes."""
        return len(self._data)

    def excerpt(self, prefix: bytes, until: int, resume: int) -> bytes:
        """The prefix, the first `until` bytes, and those from `resume` on. Raises ValueError."""
        size = len(self._data)
        if not 0 <= until <= size or not 0 <= resume <= size:
            raise ValueError(f"expected a prefix and places of 0 to {size} bytes")
        return b"".join((prefix, self._data[:until], self._data[resume:]))

    def write_encoded(self, encoded: bytes) -> None:
        """Of one or more values."""
        self._data += encoded

    def write_part(self, encoded: bytes, start: int, end: int) -> None:
        """That of `part`. Raises ValueError."""
        self._data += part(encoded, start, end)

    def write_fixed(self, number: int, size: int) -> None:
        """In so many bytes, 8 at most, lowest first. Raises OverflowError if it is negative or too large."""
        self._data += number.to_bytes(size, "little")

    def write_boolean(self, value: bool) -> None:
        self._data.append(1 if value else 0)

    def write_long(self, number: int) -> None:
        """Zigzag, then seven bits a byte, lowest first. Raises OverflowError beyond 64 bits."""
        if not -(1 << 63) <= number < 1 << 63:
            raise OverflowError("an Avro long has 64 bits")
        rest = number << 1 ^ number >> 63
        while rest >= 0x80:
            self._data.append(rest & 0x7F | 0x80)
            rest >>= 7
        self._data.append(rest)

    def write_float(self, number: float) -> None:
        """Rounded to 32 bits; raises OverflowError if it is too large for them."""
        self._data += _FLOAT(number)

    def write_string(self, text: str) -> None:
        """Raises UnicodeEncodeError on text that UTF-8 can't hold."""
        encoded = text.encode()
        if len(encoded) < 64:  # its length is one byte; a call costs as much as the rest
            self._data.append(len(encoded) << 1)
        else:
            self.write_long(len(encoded))
        self._data += encoded
