"""Who is trained on and who is tested on: by a hash of the visitor, or by time.

Rules: the rows of one visitor never lie in two splits of the hash. The split by time tests on what was
decided last, and leaves out of training whatever outcome wasn't known by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

TRAIN_BELOW, VALIDATION_BELOW = 60, 75
"""Percent of the visitors: 60 train, 15 validate, 25 test."""


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers, rising."""

    train: Ints
    validation: Ints
    test: Ints


def percent_of(visitor_id: str) -> int:
    """0..99, always the same for the same visitor."""
    digest = hashlib.blake2b(visitor_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"split")
    return int.from_bytes(digest.digest(), "big") % 100


def split_by_visitor(visitor_ids: Sequence[str]) -> Split:
    percents = np.array([percent_of(visitor_id) for visitor_id in visitor_ids], dtype=np.int64)
    return Split(
        np.flatnonzero(percents < TRAIN_BELOW),
        np.flatnonzero((percents >= TRAIN_BELOW) & (percents < VALIDATION_BELOW)),
        np.flatnonzero(percents >= VALIDATION_BELOW),
    )


def split_by_time(decided_at: Ints, outcome_ms: int = 0) -> Split:
    """The first 60 % of the rows by time, then 15 %, then 25 %.

    `outcome_ms` is how long a row waits for its outcome: rows are left out that were decided before the next
    split began but whose outcome could still come after.
    """
    begins_validation, begins_test = np.quantile(decided_at, [TRAIN_BELOW / 100, VALIDATION_BELOW / 100])
    known_at = decided_at + outcome_ms
    return Split(
        np.flatnonzero(known_at < begins_validation),
        np.flatnonzero((decided_at >= begins_validation) & (known_at < begins_test)),
        np.flatnonzero(decided_at >= begins_test),
    )


def split_forward(decided_at: Ints, visitor_ids: Sequence[str], outcome_ms: int) -> Split:
    """Tests on the last quarter by time; validates on every fifth visitor of what was known by then.

    For outcomes that take longer than a validation stretch between the two would last.
    """
    begins_test = np.quantile(decided_at, VALIDATION_BELOW / 100)
    known = decided_at + outcome_ms < begins_test
    fifth = np.array([percent_of(visitor_id) % 5 == 0 for visitor_id in visitor_ids], dtype=np.bool_)
    return Split(
        np.flatnonzero(known & ~fifth),
        np.flatnonzero(known & fifth),
        np.flatnonzero(decided_at >= begins_test),
    )
