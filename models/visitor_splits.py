"""The split of visitors by hash, one for training and evaluation: 60 % train, 15 % validation, 25 % test.

The same visitor always falls into the same split, so the sessions of one visitor never lie in two.
"""

from __future__ import annotations

import hashlib
from typing import Literal

SplitName = Literal["train", "validation", "test"]
TRAIN_BELOW, VALIDATION_BELOW = 60, 75
"""Percent of the visitors."""


def percent_of(visitor_id: str) -> int:
    """0..99, always the same for the same visitor."""
    digest = hashlib.blake2b(visitor_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"split")
    return int.from_bytes(digest.digest(), "big") % 100


def split_of(visitor_id: str) -> SplitName:
    percent = percent_of(visitor_id)
    if percent < TRAIN_BELOW:
        return "train"
    return "validation" if percent < VALIDATION_BELOW else "test"
