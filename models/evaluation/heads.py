"""The small models on top of features, the same for every contender: linear, with a tuned penalty.

Heads are fitted on training rows; the penalty and the threshold for labels are chosen on validation rows.
Features that all contenders share keep the penalty chosen for them alone, so that the added ones are judged.
B rows, F features, T tiles, K slots, P labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float64, Int64
from streamer.models.fused.heads import Scaling

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4, 1e-5)
"""Times half the squared length of the weights, beside the mean loss of a row."""
MAX_STEPS = 400
TOLERANCE = 1e-5

Loss = Callable[[Float64], tuple[float, Float64]]


@dataclass(frozen=True, slots=True)
class TileHead:
    """Probability of a tile: softmax over the tiles shown of weights · features + bias + slot."""

    scaling: Scaling
    weights: Float64
    """[F, T]"""
    bias: Float64
    """[T]"""
    slots: Float64
    """[K]"""
    penalty: float

    def scores(self, features: Float64, shown: Int64) -> Float64:
        """[B, T]: of the tiles shown with their slot's."""
        scores = self.scaling.apply(features) @ self.weights + self.bias
        of_slots = np.zeros_like(scores)
        np.put_along_axis(of_slots, shown, np.broadcast_to(self.slots, shown.shape), axis=1)
        found: Float64 = scores + of_slots
        return found

    def log_probabilities(self, features: Float64, shown: Int64) -> Float64:
        """[B, K]"""
        return of_shown(self.scores(features, shown), shown)


@dataclass(frozen=True, slots=True)
class LabelHead:
    """One logistic regression a label."""

    scaling: Scaling
    weights: Float64
    """[F, P]"""
    bias: Float64
    """[P]"""
    penalty: float

    def scores(self, features: Float64) -> Float64:
        """[B, P]"""
        logits: Float64 = self.scaling.apply(features) @ self.weights + self.bias
        return logits

    def probabilities(self, features: Float64) -> Float64:
        """[B, P]"""
        chances: Float64 = expit(self.scores(features))
        return chances


def of_shown(scores: Float64, shown: Int64) -> Float64:
    """[B, K]: log probabilities of the tiles shown, by the scores [B, T] of all."""
    logs: Float64 = log_softmax(np.take_along_axis(scores, shown, axis=1), axis=1)
    return logs


@dataclass(frozen=True, slots=True)
class FixedPenalty:
    """The first columns of the features keep the penalty tuned for them alone; that of the others is
    tuned."""

    columns: int = 0
    penalty: float = 0.0

    def by_column(self, width: int, penalty: float) -> Float64:
        """[F, 1]"""
        fixed = np.arange(width)[:, None] < self.columns
        return np.where(fixed, self.penalty, penalty)


NONE_FIXED = FixedPenalty()


def fit_tile_head(
    train: tuple[Float64, Int64, Int64],
    validation: tuple[Float64, Int64, Int64],
    tiles: int,
    fixed: FixedPenalty = NONE_FIXED,
) -> TileHead:
    """Each of `train` and `validation` is (features [B, F], shown [B, K], clicked slot [B])."""
    features, shown, clicked = train
    scaling = Scaling.fit(features)
    x = scaling.apply(features)
    shape = (x.shape[1], tiles, shown.shape[1])

    def head(flat: Float64, penalty: float) -> TileHead:
        return TileHead(scaling, *_tile_parts(flat, shape), penalty)

    def cost(flat: Float64) -> float:
        logs = head(flat, 0.0).log_probabilities(validation[0], validation[1])
        return -float(np.take_along_axis(logs, validation[2][:, None], axis=1).mean())

    size = (shape[0] + 1) * tiles + shape[2]

    def loss_at(penalty: float) -> Loss:
        return _tile_loss(x, shown, clicked, tiles, fixed.by_column(x.shape[1], penalty))

    return head(*_best_penalty(loss_at, cost, size))


def fit_label_head(
    train: tuple[Float64, Float64],
    validation: tuple[Float64, Float64],
    fixed: FixedPenalty = NONE_FIXED,
) -> LabelHead:
    """Each of `train` and `validation` is (features [B, F], labels [B, P] of 0 and 1)."""
    features, labels = train
    scaling = Scaling.fit(features)
    x, x_validation = scaling.apply(features), scaling.apply(validation[0])
    width, count = x.shape[1], labels.shape[1]

    def cost(flat: Float64) -> float:
        logits = x_validation @ flat[: width * count].reshape(width, count) + flat[width * count :]
        return float((np.logaddexp(0.0, logits) - validation[1] * logits).mean())

    size = (width + 1) * count

    def loss_at(penalty: float) -> Loss:
        return _label_loss(x, labels, fixed.by_column(width, penalty))

    flat, penalty = _best_penalty(loss_at, cost, size)
    weights, bias = flat[: width * count].reshape(width, count), flat[width * count :]
    return LabelHead(scaling, weights, bias, penalty)


def best_threshold(chances: Float64, labels: Float64) -> float:
    """The probability from which on labels give the highest micro F1; 1 if no label is ever right."""
    order = np.argsort(-chances, axis=None, kind="stable")
    ranked, right = chances.ravel()[order], np.cumsum(labels.ravel()[order])
    f1 = 2.0 * right / (np.arange(1, len(right) + 1) + max(labels.sum(), 1.0))
    # A threshold can only lie where the next probability is lower.
    f1[:-1][ranked[:-1] == ranked[1:]] = -1.0
    best = int(np.argmax(f1))
    return float(ranked[best]) if f1[best] > 0.0 else 1.0


def _best_penalty(
    loss_at: Callable[[float], Loss], cost: Callable[[Float64], float], size: int
) -> tuple[Float64, float]:
    """Weights and penalty of the lowest cost; from strong to weak, each warm-started from the one before.

    Ends after two penalties without a gain: weaker ones only overfit.
    """
    flat = np.zeros(size)
    best, best_penalty, least, without_gain = flat, PENALTIES[0], float("inf"), 0
    for penalty in PENALTIES:
        flat = _minimise(loss_at(penalty), flat)
        found = cost(flat)
        if found < least:
            best, best_penalty, least, without_gain = flat, penalty, found, 0
        elif (without_gain := without_gain + 1) == 2:
            break
    return best, best_penalty


def _minimise(loss: Loss, start: Float64) -> Float64:
    options = {"maxiter": MAX_STEPS, "gtol": TOLERANCE, "ftol": 1e-9}
    # These matrices are small: several BLAS threads only wait for each other, and sum in varying order.
    with threadpool_limits(1, user_api="blas"):
        found: Float64 = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found


def _tile_parts(flat: Float64, shape: tuple[int, int, int]) -> tuple[Float64, Float64, Float64]:
    width, tiles, _ = shape
    weights, rest = flat[: width * tiles].reshape(width, tiles), flat[width * tiles :]
    return weights, rest[:tiles], rest[tiles:]


def _tile_loss(x: Float64, shown: Int64, clicked: Int64, tiles: int, penalty: Float64) -> Loss:
    """`penalty` [F, 1]"""
    rows = len(x)
    shape = (x.shape[1], tiles, shown.shape[1])
    chosen = np.arange(shown.shape[1]) == clicked[:, None]

    def loss(flat: Float64) -> tuple[float, Float64]:
        weights, bias, slots = _tile_parts(flat, shape)
        logs = log_softmax(np.take_along_axis(x @ weights + bias, shown, axis=1) + slots, axis=1)
        value = -logs[chosen].mean() + 0.5 * (penalty * weights**2).sum()
        towards = (np.exp(logs) - chosen) / rows
        per_tile = np.zeros((rows, tiles))
        np.put_along_axis(per_tile, shown, towards, axis=1)
        slope = (x.T @ per_tile + penalty * weights, per_tile.sum(axis=0), towards.sum(axis=0))
        return float(value), np.concatenate([part.ravel() for part in slope])

    return loss


def _label_loss(x: Float64, labels: Float64, penalty: Float64) -> Loss:
    """The mean over rows of the sum over labels. `penalty` [F, 1]"""
    rows, width, count = len(x), x.shape[1], labels.shape[1]

    def loss(flat: Float64) -> tuple[float, Float64]:
        weights, bias = flat[: width * count].reshape(width, count), flat[width * count :]
        logits = x @ weights + bias
        value = (np.logaddexp(0.0, logits) - labels * logits).sum() / rows + 0.5 * (
            penalty * weights**2
        ).sum()
        towards = (expit(logits) - labels) / rows
        slope = (x.T @ towards + penalty * weights, towards.sum(axis=0))
        return float(value), np.concatenate([part.ravel() for part in slope])

    return loss
