"""Metrics of a probe with intervals over draws of labels and over visitors or customers.

AUC is that of two classes; of more, the mean over the classes of each against the rest. D draws of labels and
of test rows, B test rows, R resamplings, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.bootstrap import Resampled

RESAMPLED = 1_000
_CHUNK = 100


class ScoredDraw(NamedTuple):
    """The test rows of one draw, and the log probabilities that a contender gave them."""

    owners: Int64
    """[B]: numbers from 0"""
    labels: Int64
    """[B]"""
    logs: Float64
    """[B, K]"""


Metric = Callable[[ScoredDraw, Float64], Float64]
"""Under weights [R, B] of the test rows: [R], NaN where there is none."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """The same for every contender, so that their differences are paired."""

    owners: int
    draws: Int64
    """[R, D]: draws of labels, with replacement"""
    seed: int

    @classmethod
    def of(cls, owners: int, draws: int, seed: int, count: int = RESAMPLED) -> Resampling:
        rng = np.random.default_rng(seed)
        return cls(owners, rng.integers(draws, size=(count, draws)), seed)

    def apply(self, tested: Sequence[ScoredDraw], metric: Metric) -> Resampled:
        """The mean over draws: as measured, and under each resampling of draws and owners."""
        measured = np.array([metric(each, np.ones((1, len(each.labels))))[0] for each in tested])
        rng = np.random.default_rng(self.seed)
        values = np.empty((len(self.draws), len(tested)))
        for start in range(0, len(values), _CHUNK):
            size = min(_CHUNK, len(values) - start)
            share = np.full(self.owners, 1.0 / self.owners)
            times = rng.multinomial(self.owners, share, size=size).astype(np.float64)
            for draw, each in enumerate(tested):
                values[start : start + size, draw] = metric(each, times[:, each.owners])
        resampled = np.take_along_axis(values, self.draws, axis=1).mean(axis=1)
        return Resampled(float(np.nanmean(measured)), resampled)


def auc(tested: ScoredDraw, weights: Float64) -> Float64:
    classes = tested.logs.shape[1]
    if classes == 2:
        return _auc_of(tested.logs[:, 1] - tested.logs[:, 0], tested.labels == 1, weights)
    each = [_auc_of(tested.logs[:, k], tested.labels == k, weights) for k in range(classes)]
    return np.asarray(np.mean(each, axis=0))


def log_loss(tested: ScoredDraw, weights: Float64) -> Float64:
    losses = -np.take_along_axis(tested.logs, tested.labels[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ losses / weights.sum(axis=1))


def _auc_of(scores: Float64, positive: np.ndarray, weights: Float64) -> Float64:
    """The chance that a positive row is above a negative one; ties count half."""
    order = np.argsort(scores, kind="stable")
    ranked, positive = scores[order], positive[order]
    begins = np.flatnonzero(np.diff(ranked, prepend=-np.inf) > 0)
    sorted_weights = weights[:, order]
    of_positive = np.add.reduceat(sorted_weights * positive, begins, axis=1)
    of_negative = np.add.reduceat(sorted_weights * ~positive, begins, axis=1)
    below = np.cumsum(of_negative, axis=1) - of_negative / 2.0
    pairs = of_positive.sum(axis=1) * of_negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((of_positive * below).sum(axis=1) / pairs)
