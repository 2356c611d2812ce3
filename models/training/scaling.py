"""How far logits may be believed: one temperature, or two mixed, whichever validation labels need.

A teacher that errs now and then caps how sure anybody can be of its labels, even where the session is clear.
One temperature can't express that; a second, blunter softmax with a share of its own can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, softmax

from models.training.teacher import Float32

Float64 = npt.NDArray[np.float64]
MIN_GAIN = 1e-3
"""In nats a session: a second temperature that explains less is left out."""
_LOG_BOUND = 3.0


@dataclass(frozen=True)
class Scaling:
    temperature: float
    blunt_share: float | None = None
    blunt_temperature: float | None = None


def fit_scaling(logits: Float32, soft: Float32) -> Scaling:
    """The scaling under which the teacher's labels `soft` [M, K] are the most likely."""
    own, labels = logits.astype(np.float64), soft.astype(np.float64)

    def one(log_temperature: float) -> float:
        return _cross_entropy(_at(own, log_temperature), labels)

    single = minimize_scalar(one, bounds=(-_LOG_BOUND, _LOG_BOUND), method="bounded")

    def two(parameters: Float64) -> float:
        return _cross_entropy(_mixed(own, parameters), labels)

    start = np.array([single.x - 0.2, -2.0, single.x + 1.0])
    mixed = minimize(two, start, method="Nelder-Mead", options={"maxiter": 300, "xatol": 1e-3, "fatol": 1e-6})
    if float(single.fun) - float(mixed.fun) < MIN_GAIN:
        return Scaling(round(float(np.exp(single.x)), 4))
    sharp, share, blunt = np.clip(mixed.x, [-_LOG_BOUND, -10, -_LOG_BOUND], [_LOG_BOUND, 10, 2 * _LOG_BOUND])
    return Scaling(
        round(float(np.exp(sharp)), 4), round(float(expit(share)), 4), round(float(np.exp(blunt)), 4)
    )


def _mixed(logits: Float64, parameters: Float64) -> Float64:
    """`parameters`: log temperature, log odds of the blunt share, log of the blunt temperature."""
    share = expit(parameters[1])
    chances: Float64 = (1.0 - share) * _at(logits, parameters[0]) + share * _at(logits, parameters[2])
    return chances


def _at(logits: Float64, log_temperature: float) -> Float64:
    bounded = np.clip(log_temperature, -2 * _LOG_BOUND, 2 * _LOG_BOUND)
    chances: Float64 = softmax(logits / np.exp(bounded), axis=1)
    return chances


def _cross_entropy(chances: Float64, labels: Float64) -> float:
    return float(-(labels * np.log(np.maximum(chances, 1e-12))).sum(1).mean())
