"""Calibration, abstention and AUROC on rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.evaluation.calibrated import abstention_curve, auroc, calibration_error, reliability


def test_chances_that_come_true_as_often_as_claimed_have_no_error() -> None:
    rng = np.random.default_rng(0)
    claimed = rng.random(40_000)
    assert calibration_error(claimed, rng.random(40_000) < claimed).value() < 0.015


def test_certainty_that_is_right_half_the_time_is_off_by_half() -> None:
    right = np.arange(1_000) % 2 == 0
    assert calibration_error(np.ones(1_000), right).value() == pytest.approx(0.5)
    assert reliability(np.ones(1_000), right) == [{"claimed": 1.0, "right": 0.5, "rows": 1_000}]


def test_answering_only_the_surest_is_righter_and_all_is_the_plain_accuracy() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(2_000)
    right = rng.random(2_000) < confidence
    curve = abstention_curve(confidence, right)
    assert curve[0]["accuracy"] > curve[-1]["accuracy"] + 0.2
    assert curve[-1] == {"answered": 1.0, "accuracy": pytest.approx(right.mean())}


def test_auroc_is_that_of_the_textbook_with_ties_counted_half() -> None:
    rng = np.random.default_rng(0)
    scores, positive = np.round(rng.normal(size=500), 1), rng.random(500) < 0.3
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert np.isnan(auroc(scores, np.zeros(500, dtype=np.bool_)))
