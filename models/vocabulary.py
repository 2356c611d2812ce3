"""A field's vocabulary: which id a value gets.

Id 0 is padding and the missing value, then come hashed buckets for values never learnt (the tail), then the
learnt values, most frequent first. Hashes are CRC-32 of UTF-8: the same everywhere and always,
unlike Python's `hash()`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self
from zlib import crc32

OOV_BUCKETS = 32
"""Hashed buckets of a field, unless a recipe widens its tail."""
MAX_VALUE_CHARS = 128
"""Longer values are never learnt: they would only bloat the file."""


def stable_hash(text: str) -> int:
    """32-bit hash. Lone surrogates, which UTF-8 can't hold, hash as what they are."""
    return crc32(text.encode("utf-8", "surrogatepass"))


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it: a value with lone surrogates is hashed, never learnt."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Vocabulary:
    """Values learnt in training, in id order; immutable."""

    __slots__ = ("_ids", "hashed", "values")

    def __init__(self, values: Sequence[str], hashed: int = OOV_BUCKETS) -> None:
        self.values = tuple(values)
        self.hashed = hashed
        self._ids = {value: self.first_learnt + i for i, value in enumerate(self.values)}
        if len(self._ids) != len(self.values):
            raise ValueError("a vocabulary lists a value twice")

    @classmethod
    def learn(
        cls, counts: Mapping[str, int], min_count: int, max_size: int, hashed: int = OOV_BUCKETS
    ) -> Self:
        """The values counted at least `min_count` times, at most `max_size` of them; ties by value."""
        ranked = sorted(Counter(counts).items(), key=lambda item: (-item[1], item[0]))
        kept = [v for v, n in ranked if n >= min_count and len(v) <= MAX_VALUE_CHARS and _is_text(v)]
        return cls(kept[:max_size], hashed)

    @property
    def first_learnt(self) -> int:
        """The first id behind padding and hashed buckets."""
        return 1 + self.hashed

    @property
    def size(self) -> int:
        """Number of ids, padding and hashed buckets included."""
        return self.first_learnt + len(self.values)

    def id_of(self, value: str | None) -> int:
        """0 for a missing or empty value, a bucket in 1..hashed for one never learnt."""
        if not value:
            return 0
        known = self._ids.get(value)
        return 1 + stable_hash(value) % self.hashed if known is None else known
