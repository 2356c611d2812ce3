"""Drawing from small discrete distributions, fast enough for a hundred draws a session."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

T = TypeVar("T")

Cumulative = tuple[float, ...]
"""Running sums of weights, scaled to end at 1."""


def cumulate(weights: Iterable[float]) -> Cumulative:
    sums = list(accumulate(float(weight) for weight in weights))
    if not sums or sums[-1] <= 0.0:
        raise ValueError(f"weights sum to {sums[-1] if sums else 'nothing'}, expected more than 0")
    return (*(value / sums[-1] for value in sums[:-1]), 1.0)


def pick(rng: np.random.Generator, cumulative: Cumulative) -> int:
    """An index, with the probability of its weight."""
    return bisect_right(cumulative, rng.random())


def pick_one(rng: np.random.Generator, items: Sequence[T]) -> T:
    """Each item alike."""
    return items[int(rng.random() * len(items))]
