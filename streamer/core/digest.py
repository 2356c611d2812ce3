"""Digests of a set of records that don't depend on their order.

The sum of 128-bit hashes modulo 2**128: adding, in any order and in any split, gives the same digest, and
a record that is there twice does not cancel out (as it would with XOR). Bellare, Micciancio 1997 (AdHash).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_BYTES = 16
_MODULUS = 1 << (8 * _BYTES)


def record_hash(record: bytes) -> bytes:
    """The 16 bytes that a record adds to a digest."""
    return hashlib.blake2b(record, digest_size=_BYTES).digest()


class MultisetDigest:
    """Running digest and count of byte strings."""

    def __init__(self, count: int = 0, hexdigest: str = "") -> None:
        """Of nothing; or going on from a digest that was stored."""
        self.count = count
        self._sum = int(hexdigest or "0", 16)

    def add(self, records: Iterable[bytes]) -> None:
        """Take records in."""
        hashes = [record_hash(record) for record in records]
        self.count += len(hashes)
        self._sum = (self._sum + sum(map(int.from_bytes, hashes))) % _MODULUS

    def add_hash(self, hashed: bytes) -> None:
        """Take in the record that `record_hash` gave this for."""
        self.count += 1
        self._sum = (self._sum + int.from_bytes(hashed, "big")) % _MODULUS

    def merge(self, other: MultisetDigest) -> None:
        """Take in everything that `other` has, as if it had been added here."""
        self.count += other.count
        self._sum = (self._sum + other._sum) % _MODULUS

    def hexdigest(self) -> str:
        """32 hex digits; all zero for no record."""
        return self._sum.to_bytes(_BYTES, "big").hex()
