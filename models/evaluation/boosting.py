"""Gradient boosted trees in place of the linear head: what a careful team would try on counts of pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.evaluation.features import Floats
from models.evaluation.heads import best_threshold

LEAVES = (4, 15)
STEPS = 150
LEARNING_RATE = 0.08
MIN_LEAF = 40
MIN_OF_EACH = 5
"""Of a label with fewer rows of either value nothing is learnt but how frequent it is."""


@dataclass(frozen=True, slots=True)
class BoostedHead:
    """One ensemble a label; a number where training rows had hardly any. Threshold as in LabelHead."""

    labels: tuple[HistGradientBoostingClassifier | float, ...]
    threshold: float

    def probabilities(self, features: Floats) -> Floats:
        """[B, P]"""
        return np.stack([_chances(label, features) for label in self.labels], axis=1)


def fit_boosted_head(
    train: tuple[Floats, Floats], validation: tuple[Floats, Floats], seed: int
) -> BoostedHead:
    """`train` and `validation` are (features [B, F], labels [B, P]); leaves are chosen on validation."""
    heads = [_head(train, leaves, seed) for leaves in LEAVES]
    best = min(heads, key=lambda head: _cost(head.probabilities(validation[0]), validation[1]))
    return BoostedHead(best.labels, best_threshold(best.probabilities(validation[0]), validation[1]))


def _head(train: tuple[Floats, Floats], leaves: int, seed: int) -> BoostedHead:
    features, labels = train
    return BoostedHead(
        tuple(_label(features, labels[:, p], leaves, seed) for p in range(labels.shape[1])), 0.5
    )


def _label(features: Floats, label: Floats, leaves: int, seed: int) -> HistGradientBoostingClassifier | float:
    if min(label.sum(), len(label) - label.sum()) < MIN_OF_EACH:
        return float(label.mean())
    trees = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE,
        max_iter=STEPS,
        max_leaf_nodes=leaves,
        min_samples_leaf=MIN_LEAF,
        early_stopping=True,
        n_iter_no_change=8,
        random_state=seed,
    )
    # One thread: the same trees everywhere, and no waiting for each other on rows this few.
    with threadpool_limits(1):
        return trees.fit(features, label)


def _chances(label: HistGradientBoostingClassifier | float, features: Floats) -> Floats:
    if isinstance(label, float):
        return np.full(len(features), label)
    with threadpool_limits(1):
        chances: Floats = label.predict_proba(features)[:, 1]
    return chances


def _cost(chances: Floats, labels: Floats) -> float:
    inside = np.clip(chances, 1e-6, 1.0 - 1e-6)
    return -float((labels * np.log(inside) + (1.0 - labels) * np.log1p(-inside)).mean())
