"""Which partition a visitor's clicks go to: as Kafka's Java clients choose it, murmur2 of the key.

So clicks sent from here and from any other client that keys by visitor meet in one partition.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import cast

from aiokafka.partitioner import murmur2

from streamer.schemas.build import IS_COMPILED

if IS_COMPILED:
    from streamer.native import wire

_REMEMBERED_KEYS = 65_536
_POSITIVE = 0x7FFFFFFF


@lru_cache(_REMEMBERED_KEYS)
def _by_python(key: bytes) -> int:
    """Remembered: a visitor clicks more than once."""
    return cast(int, murmur2(key)) & _POSITIVE


hash_of: Callable[[bytes], int] = wire.murmur2 if IS_COMPILED else _by_python
"""Java's `toPositive(murmur2(key))`."""
Placing = Callable[[bytes, int], int]
"""Partition of a key, by the number of partitions."""


def by_murmur2(key: bytes, partitions: int) -> int:
    """The partition of a key, of so many."""
    return hash_of(key) % partitions


def _by_crc32(key: bytes, partitions: int) -> int:
    return zlib.crc32(key) % partitions


PLACINGS: Mapping[str, Placing] = {"murmur2": by_murmur2, "crc32": _by_crc32}
"""As Java's clients choose a partition, and as librdkafka's do by default (`consistent_random`)."""


def placing_of(keys: Iterable[tuple[bytes, int]], partitions: int) -> Placing | None:
    """How producers choose partitions, by keys and the partitions that they are in; None: in no known way.

    Murmur2 where there is no key.
    """
    possible = list(PLACINGS.values())
    for key, partition in keys:
        possible = [placing for placing in possible if placing(key, partitions) == partition]
    return possible[0] if possible else None


class PartitionChooser:
    """Partition of a key; records without one take turns."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._next = 0

    def __call__(self, key: bytes | None) -> int:
        if key is not None:
            return by_murmur2(key, self._partitions)
        self._next = (self._next + 1) % self._partitions
        return self._next
