"""Which partition a visitor's clicks go to: as Kafka's Java clients choose it, murmur2 of the key.

So clicks sent from here and from any other client that keys by visitor meet in one partition.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from aiokafka.partitioner import murmur2

_REMEMBERED_KEYS = 65_536
_POSITIVE = 0x7FFFFFFF


@lru_cache(_REMEMBERED_KEYS)
def hash_of(key: bytes) -> int:
    """Java's `toPositive(murmur2(key))`. Remembered: a visitor clicks more than once, and this is Python."""
    return cast(int, murmur2(key)) & _POSITIVE


class PartitionChooser:
    """Partition of a key; records without one take turns."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._next = 0

    def __call__(self, key: bytes | None) -> int:
        if key is not None:
            return hash_of(key) % self._partitions
        self._next = (self._next + 1) % self._partitions
        return self._next
