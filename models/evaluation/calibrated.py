"""How far chances can be believed, and what abstaining buys. B rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.evaluation.features import Floats
from models.evaluation.metrics import Measured
from models.evaluation.splits import Ints
from models.evaluation.world import Bools

BINS = 15


def calibration_error(claimed: Floats, right: Floats | Bools) -> Measured:
    """Expected calibration error of chances [B] against what came true [B], in bins of equal width.

    `right` may be a share: that of a teacher's answers which say so.
    """
    inside = np.eye(BINS)[_bin(claimed)]
    numbers = np.concatenate(
        [inside * claimed[:, None], inside * right[:, None], np.ones((len(claimed), 1))], axis=1
    )

    def formula(sums: Floats) -> Floats:
        gaps = np.abs(sums[..., :BINS] - sums[..., BINS : 2 * BINS]).sum(axis=-1)
        error: Floats = gaps / np.maximum(sums[..., -1], 1.0)
        return error

    return Measured(numbers, formula, "lower")


def reliability(claimed: Floats, right: Floats | Bools) -> list[dict[str, float]]:
    """One point per bin in use: mean chance claimed, share that came true, rows."""
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


def abstention_curve(confidence: Floats, right: Bools, points: int = 25) -> list[dict[str, Any]]:
    """Accuracy on the most confident share of the rows, from a few to all of them."""
    order = np.argsort(-confidence, kind="stable")
    hits = right[order].cumsum()
    counts = np.unique(np.linspace(len(order) / points, len(order), points).astype(int).clip(min=1))
    return [
        {"answered": float(count / len(order)), "accuracy": float(hits[count - 1] / count)}
        for count in counts.tolist()
    ]


def auroc(scores: Floats, positive: Bools) -> float:
    """The chance that a positive row has a higher score than a negative one; ties count half."""
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


def _bin(claimed: Floats) -> Ints:
    bins: Ints = np.minimum((claimed * BINS).astype(np.int64), BINS - 1)
    return bins
