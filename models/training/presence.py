"""From one distribution over intents to a probability for each: sessions can have two intents.

An intent counts as shown if the teacher gives it a quarter of the session or more. Two numbers, fitted on
validation (Platt 1999), turn the log odds of an intent's probability into the log odds that it is shown.
"""

from __future__ import annotations

import warnings

import msgspec
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from models.calibration import Calibration, log_odds
from models.training.teacher import Float32

SHOWN = 0.25
"""A third is what votes that are all for two intents give the second."""
_BINS = 15


def with_presence(calibration: Calibration, probabilities: Float32, soft: Float32) -> Calibration:
    """`probabilities` and the teacher's `soft` labels are [M, K]. Unchanged if nothing or all is shown."""
    shown = (soft >= SHOWN).ravel()
    if shown.all() or not shown.any():
        return calibration
    model = LogisticRegression(C=1e6)
    with warnings.catch_warnings():
        # Labels that a line parts have no best slope; a steep one does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(log_odds(probabilities).reshape(-1, 1), shown)
    slope, offset = np.clip([model.coef_[0, 0], model.intercept_[0]], -100, 100).round(4).tolist()
    return msgspec.structs.replace(calibration, presence_slope=slope, presence_offset=offset)


def presence_metrics(
    calibration: Calibration, probabilities: Float32, soft: Float32
) -> dict[str, float] | None:
    """Calibration error over all sessions and intents, and how often both of two intents are found."""
    claimed = calibration.presence(probabilities)
    if claimed is None:
        return None
    shown = soft >= SHOWN
    bins = np.minimum((claimed * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(claimed[bins == b].sum() - shown[bins == b].sum())) for b in range(_BINS)]
    two = shown.sum(1) == 2
    both = ((claimed >= 0.5) & shown)[two].sum(1) == 2
    return {
        "ece": round(sum(gaps) / shown.size, 4),
        "sessions_with_two": round(float(two.mean()), 4),
        "both_found": round(float(both.mean()), 4) if two.any() else 0.0,
    }
