"""Boosted trees as a team in production has them: tuned, for both tasks, on top of a linear head's scores.

They begin where the linear head on the app's own features ends, and each round adds one tree a score: of a
tile, with a softmax over the tiles shown, or of a product. Leaves, rows of a leaf and rounds are chosen on
validation rows. G. Ke et al., LightGBM, NeurIPS 2017. B rows, F features, K scores a row, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import lightgbm
import numpy as np
from scipy.special import expit

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.heads import of_shown
from streamer.models.evaluation.splits import Split

LEAVES = ((4, 10), (8, 40))
"""Most leaves of a tree, fewest rows of a leaf."""
RATE = 0.1
MOST_ROUNDS = 200
PATIENCE = 15
"""Rounds without a gain on validation rows after which no more are tried."""
_BINS = 31
_COLUMNS = 0.3
"""Share of the columns that a tree sees."""
_L2 = 5.0
_LEAST_CURVATURE = 1e-6


class Outcome(Protocol):
    """What happened in B rows, and how well scores [B, K] say it."""

    def loss(self, scores: Float64) -> float:
        """Mean of a row, in nats."""

    def slope(self, scores: Float64) -> tuple[Float64, Float64]:
        """Slope and curvature of each row's loss, [B, K] each."""

    def of(self, rows: Int64) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Clicked:
    shown: Int64
    """[B, S]: the tiles"""
    slot: Int64
    """[B]: which of them was clicked"""

    def loss(self, scores: Float64) -> float:
        logs = of_shown(scores, self.shown)
        return -float(np.take_along_axis(logs, self.slot[:, None], axis=1).mean())

    def slope(self, scores: Float64) -> tuple[Float64, Float64]:
        chances = np.exp(of_shown(scores, self.shown))
        clicked = np.arange(self.shown.shape[1]) == self.slot[:, None]
        slope, curvature = np.zeros_like(scores), np.full_like(scores, _LEAST_CURVATURE)
        np.put_along_axis(slope, self.shown, chances - clicked, axis=1)
        # Twice that of the diagonal, which bounds the whole.
        steep = np.maximum(2.0 * chances * (1.0 - chances), _LEAST_CURVATURE)
        np.put_along_axis(curvature, self.shown, steep, axis=1)
        return slope, curvature

    def of(self, rows: Int64) -> Clicked:
        return Clicked(self.shown[rows], self.slot[rows])


@dataclass(frozen=True, slots=True)
class Bought:
    labels: Float64
    """[B, K] of 0 and 1"""

    def loss(self, scores: Float64) -> float:
        return float((np.logaddexp(0.0, scores) - self.labels * scores).sum(axis=1).mean())

    def slope(self, scores: Float64) -> tuple[Float64, Float64]:
        chances = expit(scores)
        return chances - self.labels, np.maximum(chances * (1.0 - chances), _LEAST_CURVATURE)

    def of(self, rows: Int64) -> Bought:
        return Bought(self.labels[rows])


def boosted_scores(
    features: Float64, start: Float64, outcome: Outcome, split: Split, seed: int = 0
) -> Float64:
    """[B, K] of all rows, by trees on top of the scores `start` [B, K]; test rows have no part in them."""
    constant = not np.ptp(features[split.train], axis=0).any()
    # No tree parts fewer rows than two leaves have.
    settings = [each for each in LEAVES if not constant and len(split.train) >= 2 * each[1]]
    if not settings:
        return start
    tried = [_boosted(features, start, outcome, split, leaves, fewest, seed) for leaves, fewest in settings]
    # Trees that gain nothing on validation rows are worth none.
    least = min(tried, key=lambda each: each.best_score["valid_0"]["loss"])
    if least.best_score["valid_0"]["loss"] >= outcome.of(split.validation).loss(start[split.validation]):
        return start
    added = least.predict(features, raw_score=True, num_iteration=least.best_iteration)
    scores: Float64 = start + np.asarray(added).reshape(start.shape)
    return scores


def _boosted(
    features: Float64,
    start: Float64,
    outcome: Outcome,
    split: Split,
    leaves: int,
    fewest: int,
    seed: int,
) -> lightgbm.Booster:
    train, validation = outcome.of(split.train), outcome.of(split.validation)
    settings: dict[str, Any] = {
        "objective": lambda scores, _: train.slope(scores),
        "metric": "none",
        "num_class": start.shape[1],
        "num_leaves": leaves,
        "min_data_in_leaf": fewest,
        "feature_pre_filter": False,
        "learning_rate": RATE,
        "lambda_l2": _L2,
        "feature_fraction": _COLUMNS,
        "max_bin": _BINS,
        # One thread: the same trees everywhere, and no waiting for each other on rows this few.
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "verbose": -1,
    }
    learnt = lightgbm.Dataset(features[split.train], init_score=start[split.train], params=settings)
    held = lightgbm.Dataset(features[split.validation], init_score=start[split.validation], reference=learnt)
    return lightgbm.train(
        settings,
        learnt,
        MOST_ROUNDS,
        valid_sets=[held],
        feval=lambda scores, _: ("loss", validation.loss(scores), False),
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
