"""How well labels agree with a truth that training never saw: normalized mutual information beside chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import normalized_mutual_info_score


def agreement(labels: Sequence[str], truth: Sequence[str], seed: int = 0) -> dict[str, float]:
    """NMI of labels and truth, and of labels and shuffled truth. Both sequences have the same length."""
    shuffled = np.random.default_rng(seed).permutation(np.asarray(truth))
    return {
        "nmi": round(float(normalized_mutual_info_score(truth, labels)), 4),
        "nmi_chance": round(float(normalized_mutual_info_score(shuffled, labels)), 4),
        "sessions": len(labels),
    }
