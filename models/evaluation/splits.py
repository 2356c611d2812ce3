"""Which rows are trained, validated and tested on: by the visitor's hash, or by time.

Split by the hash, the rows of one visitor never lie in two parts. Split by time, what was decided last is
tested on, and whatever outcome wasn't known by then is left out of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.models.arrays import Int64
from streamer.models.visitor_splits import TRAIN_BELOW, VALIDATION_BELOW, percent_of

FEWEST_ROWS = 50
"""Of any part of an operator's own data; with fewer nothing could be learnt or measured."""


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers, rising."""

    train: Int64
    validation: Int64
    test: Int64


def too_few_rows(split: Split) -> str | None:
    """Which part has too few, in words; None if none has."""
    for name in ("train", "validation", "test"):
        count = len(getattr(split, name))
        if count < FEWEST_ROWS:
            return f"{count} {name} rows, expected at least {FEWEST_ROWS}"
    return None


def split_by_visitor(visitor_ids: Sequence[str]) -> Split:
    percents = np.array([percent_of(visitor_id) for visitor_id in visitor_ids], dtype=np.int64)
    return Split(
        np.flatnonzero(percents < TRAIN_BELOW),
        np.flatnonzero((percents >= TRAIN_BELOW) & (percents < VALIDATION_BELOW)),
        np.flatnonzero(percents >= VALIDATION_BELOW),
    )


def split_forward(decided_at: Int64, visitor_ids: Sequence[str], outcome_ms: int) -> Split:
    """Tests on the last quarter by time; validates on every fifth visitor of the rows known by then.

    `outcome_ms` is how long a row waits for its outcome; validating on a period of its own would need at
    least as much time between training and test.
    """
    begins_test = np.quantile(decided_at, VALIDATION_BELOW / 100)
    known = decided_at + outcome_ms < begins_test
    fifth = np.array([percent_of(visitor_id) % 5 == 0 for visitor_id in visitor_ids], dtype=np.bool_)
    return Split(
        np.flatnonzero(known & ~fifth),
        np.flatnonzero(known & fifth),
        np.flatnonzero(decided_at >= begins_test),
    )
