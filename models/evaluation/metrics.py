"""Metrics in a form that can be resampled: sums of per-row numbers, then one formula.

Also here: calibration, abstention and AUROC. B rows, K slots, P labels, M numbers per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64

Better = Literal["lower", "higher"]

BINS = 15


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric on given rows: `formula` turns sums of `numbers` [..., M] into the metric [...]."""

    numbers: Float64
    """[B, M]"""
    formula: Callable[[Float64], Float64]
    better: Better

    def value(self) -> float:
        return float(self.formula(self.numbers.sum(axis=0)))


def log_loss(log_probabilities: Float64, clicked: Int64) -> Measured:
    """Mean of -log probability [B, K] of the slot [B] that was clicked, in nats."""
    losses = -np.take_along_axis(log_probabilities, clicked[:, None], axis=1)
    numbers = np.concatenate([losses, np.ones_like(losses)], axis=1)
    return Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "lower")


def macro_recall_at_1(log_probabilities: Float64, shown: Int64, clicked: Int64, tiles: int) -> Measured:
    """Of each tile's clicks the share in which it was ranked first of those shown; mean over tiles."""
    hit = log_probabilities.argmax(axis=1) == clicked
    tile = np.take_along_axis(shown, clicked[:, None], axis=1)
    clicks = (tile == np.arange(tiles)).astype(np.float64)

    def formula(sums: Float64) -> Float64:
        hits, total = sums[..., :tiles], sums[..., tiles:]
        present = total > 0
        recall = np.divide(hits, total, out=np.zeros_like(hits), where=present)
        mean: Float64 = recall.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
        return mean

    return Measured(np.concatenate([clicks * hit[:, None], clicks], axis=1), formula, "higher")


def micro_f1(given: Float64, labels: Float64) -> Measured:
    """2 · right / (given + true), over all labels of all rows; `given` and `labels` [B, P] of 0 and 1."""
    numbers = np.stack([(given * labels).sum(axis=1), given.sum(axis=1) + labels.sum(axis=1)], axis=1)

    def formula(sums: Float64) -> Float64:
        f1: Float64 = 2.0 * sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
        return f1

    return Measured(numbers, formula, "higher")


def share_of(counts: Float64) -> Measured:
    """Of rows that count, how many are right; `counts` [B, 2] has 1 or 0 for each of the two."""

    def formula(sums: Float64) -> Float64:
        share: Float64 = sums[..., 0] / np.maximum(sums[..., 1], 1.0)
        return share

    return Measured(counts, formula, "higher")


def calibration_error(claimed: Float64, right: Float64 | Bool) -> Measured:
    """Expected calibration error of probabilities [B] against what came true [B], in bins of equal width.

    `right` may be a share: how many of a teacher's answers agree.
    """
    inside = np.eye(BINS)[_bin(claimed)]
    numbers = np.concatenate(
        [inside * claimed[:, None], inside * right[:, None], np.ones((len(claimed), 1))], axis=1
    )

    def formula(sums: Float64) -> Float64:
        gaps = np.abs(sums[..., :BINS] - sums[..., BINS : 2 * BINS]).sum(axis=-1)
        error: Float64 = gaps / np.maximum(sums[..., -1], 1.0)
        return error

    return Measured(numbers, formula, "lower")


def reliability(claimed: Float64, right: Float64 | Bool) -> list[dict[str, float]]:
    """One point per bin in use: mean probability claimed, share that came true, rows."""
    of = _bin(claimed)
    return [
        {
            "claimed": float(claimed[of == b].mean()),
            "right": float(right[of == b].mean()),
            "rows": int((of == b).sum()),
        }
        for b in range(BINS)
        if (of == b).any()
    ]


def abstention_curve(confidence: Float64, right: Bool, points: int = 25) -> list[dict[str, Any]]:
    """Accuracy on the most confident share of the rows, from a few to all of them."""
    order = np.argsort(-confidence, kind="stable")
    hits = right[order].cumsum()
    counts = np.unique(np.linspace(len(order) / points, len(order), points).astype(int).clip(min=1))
    return [
        {"answered": float(count / len(order)), "accuracy": float(hits[count - 1] / count)}
        for count in counts.tolist()
    ]


def auroc(scores: Float64, positive: Bool) -> float:
    """Probability that a positive row has a higher score than a negative one; ties count half."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    begins = np.searchsorted(ranked, scores, side="left")
    ends = np.searchsorted(ranked, scores, side="right")
    ranks = (begins + ends + 1) / 2.0
    count = int(positive.sum())
    others = len(scores) - count
    if not count or not others:
        return float("nan")
    return float((ranks[positive].sum() - count * (count + 1) / 2.0) / (count * others))


def _bin(claimed: Float64) -> Int64:
    bins: Int64 = np.minimum((claimed * BINS).astype(np.int64), BINS - 1)
    return bins
