"""The metrics, written so that they can be resampled: sums of per-row numbers, then one formula.

B rows, K slots, P labels, M numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.evaluation.features import Floats
from models.evaluation.splits import Ints

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric on given rows: `formula` turns sums of `numbers` [..., M] into the metric [...]."""

    numbers: Floats
    """[B, M]"""
    formula: Callable[[Floats], Floats]
    better: Better

    def value(self) -> float:
        return float(self.formula(self.numbers.sum(axis=0)))


def log_loss(log_probabilities: Floats, clicked: Ints) -> Measured:
    """Mean of -log of the chance [B, K] that was given to the slot [B] that was clicked, in nats."""
    losses = -np.take_along_axis(log_probabilities, clicked[:, None], axis=1)
    numbers = np.concatenate([losses, np.ones_like(losses)], axis=1)
    return Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "lower")


def macro_recall_at_1(log_probabilities: Floats, shown: Ints, clicked: Ints, tiles: int) -> Measured:
    """Of each tile's clicks the share in which it was ranked first of those shown; mean over tiles."""
    hit = log_probabilities.argmax(axis=1) == clicked
    tile = np.take_along_axis(shown, clicked[:, None], axis=1)
    clicks = (tile == np.arange(tiles)).astype(np.float64)

    def formula(sums: Floats) -> Floats:
        hits, total = sums[..., :tiles], sums[..., tiles:]
        present = total > 0
        recall = np.divide(hits, total, out=np.zeros_like(hits), where=present)
        mean: Floats = recall.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
        return mean

    return Measured(np.concatenate([clicks * hit[:, None], clicks], axis=1), formula, "higher")


def micro_f1(given: Floats, labels: Floats) -> Measured:
    """2 · right / (given + true), over all labels of all rows; `given` and `labels` [B, P] of 0 and 1."""
    numbers = np.stack([(given * labels).sum(axis=1), given.sum(axis=1) + labels.sum(axis=1)], axis=1)

    def formula(sums: Floats) -> Floats:
        f1: Floats = 2.0 * sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
        return f1

    return Measured(numbers, formula, "higher")
