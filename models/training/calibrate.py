"""Fits calibration.json on validation sessions, and measures how well probabilities are calibrated.

Temperatures: a teacher that errs now and then limits how sure anybody can be of its labels, even where a
session is clear. One temperature can't express that; a mixture with a second, blunter softmax can. Presence:
a session can show two intents, so one distribution over intents becomes a probability for each, by Platt
scaling (1999) of its log odds. An intent counts as shown if the teacher gives it at least a quarter. Shapes:
M labelled sessions, K intents.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from streamer.models.arrays import Bool, Float32, Float64, Int64
from streamer.models.calibration import Calibration, log_odds
from streamer.models.training.config import TrainConfig

MIN_GAIN = 1e-3
"""Nats per session: a second temperature that gains less is left out."""
_LOG_BOUND = 3.0

SHOWN = 0.25
"""Votes that all name two intents give a third to the second."""
_BINS = 15
"""Of the claimed probability, of equal width."""


def fit_calibration(logits: Float32, soft: Float32, novelty: Float32, config: TrainConfig) -> Calibration:
    """From logits and teacher labels `soft`, both [M, K], and the novelty [N] of all validation sessions."""
    scaling = fit_scaling(logits, soft)
    calibration = Calibration(
        temperature=scaling.temperature,
        blunt_share=scaling.blunt_share,
        blunt_temperature=scaling.blunt_temperature,
        min_probability=config.min_probability,
        max_novelty=round(float(np.quantile(novelty, config.novelty_quantile)), 4),
        min_clicks=config.min_clicks,
    )
    return with_presence(calibration, calibration.probabilities(logits), soft)


def calibration_metrics(calibration: Calibration, logits: Float32, soft: Float32) -> dict[str, Any]:
    """Of logits [M, K] against the teacher's labels `soft` [M, K]."""
    probabilities = calibration.probabilities(logits)
    best = probabilities.argmax(1)
    shown = presence_metrics(calibration, probabilities, soft)
    return {
        "accuracy_against_teacher": round(float((best == soft.argmax(1)).mean()), 4),
        "ece": round(expected_calibration_error(probabilities, soft), 4),
        "reliability": reliability(probabilities, soft),
        **({"presence": shown} if shown else {}),
    }


@dataclass(frozen=True)
class TemperatureScaling:
    temperature: float
    blunt_share: float | None = None
    blunt_temperature: float | None = None


def fit_scaling(logits: Float32, soft: Float32) -> TemperatureScaling:
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
        return TemperatureScaling(round(float(np.exp(single.x)), 4))
    sharp, share, blunt = np.clip(mixed.x, [-_LOG_BOUND, -10, -_LOG_BOUND], [_LOG_BOUND, 10, 2 * _LOG_BOUND])
    return TemperatureScaling(
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


def with_presence(calibration: Calibration, probabilities: Float32, soft: Float32) -> Calibration:
    """`probabilities` and the teacher's `soft` labels are [M, K]. Unchanged if nothing or all is shown."""
    shown = (soft >= SHOWN).ravel()
    if shown.all() or not shown.any():
        return calibration
    model = LogisticRegression(C=1e6)
    with warnings.catch_warnings():
        # Separable labels have no best slope; any steep one will do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(log_odds(probabilities).reshape(-1, 1), shown)
    slope, offset = np.clip([model.coef_[0, 0], model.intercept_[0]], -100, 100).round(4).tolist()
    return msgspec.structs.replace(calibration, presence_slope=slope, presence_offset=offset)


def presence_metrics(
    calibration: Calibration, probabilities: Float32, soft: Float32
) -> dict[str, float] | None:
    """Calibration error over all sessions and intents; of sessions with two intents, how often both are
    found."""
    claimed = calibration.presence(probabilities)
    if claimed is None:
        return None
    shown = soft >= SHOWN
    two = shown.sum(1) == 2
    both = ((claimed >= 0.5) & shown)[two].sum(1) == 2
    return {
        "ece": round(_calibration_error(claimed, shown), 4),
        "sessions_with_two": round(float(two.mean()), 4),
        "both_found": round(float(both.mean()), 4) if two.any() else 0.0,
    }


def expected_calibration_error(probabilities: Float32, soft: Float32) -> float:
    """Of the best intent. `given` is the teacher's soft label for it; with hard labels this is the usual
    ECE."""
    return _calibration_error(*_best(probabilities, soft))


def reliability(probabilities: Float32, soft: Float32) -> list[dict[str, float]]:
    """Of the best intent, one point per bin in use: mean probability claimed and given, and how many
    sessions."""
    claimed, given = _best(probabilities, soft)
    bins = _bins(claimed)
    return [
        {
            "claimed": round(float(claimed[bins == b].mean()), 4),
            "given": round(float(given[bins == b].mean()), 4),
            "sessions": int((bins == b).sum()),
        }
        for b in np.unique(bins).tolist()
    ]


def _best(probabilities: Float32, soft: Float32) -> tuple[Float32, Float32]:
    """[M] and [M]: probability claimed and given of the best intent."""
    best, rows = probabilities.argmax(1), np.arange(len(probabilities))
    return probabilities[rows, best], soft[rows, best]


def _calibration_error(claimed: Float32, given: Float32 | Bool) -> float:
    """Mean over all numbers of |claimed - given|, each summed within the bins of `claimed`."""
    bins = _bins(claimed)
    gaps = [abs(float(claimed[bins == b].sum() - given[bins == b].sum())) for b in range(_BINS)]
    return sum(gaps) / max(1, claimed.size)


def _bins(claimed: Float32) -> Int64:
    return np.minimum((claimed * _BINS).astype(np.int64), _BINS - 1)
