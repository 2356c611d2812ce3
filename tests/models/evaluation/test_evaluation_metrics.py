"""Metrics beside scikit-learn's on small cases; calibration and abstention where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, recall_score, roc_auc_score

from streamer.models.evaluation import metrics
from streamer.models.evaluation.metrics import abstention_curve, auroc, calibration_error, reliability


@pytest.fixture
def ranked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log probabilities [B, K], shown [B, K] and clicked [B] of 200 rows, 4 slots and 6 tiles."""
    rng = np.random.default_rng(3)
    chances = rng.dirichlet(np.ones(4), size=200)
    shown = np.array([rng.permutation(6)[:4] for _ in range(200)])
    return np.log(chances), shown, rng.integers(0, 4, size=200)


def test_log_loss_is_scikit_learns(ranked: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logs, _, clicked = ranked
    expected = log_loss(clicked, np.exp(logs), labels=range(4))
    assert metrics.log_loss(logs, clicked).value() == pytest.approx(expected)


def test_macro_recall_at_1_is_scikit_learns(ranked: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logs, shown, clicked = ranked
    truth, guess = shown[np.arange(200), clicked], shown[np.arange(200), logs.argmax(axis=1)]
    expected = recall_score(truth, guess, labels=np.unique(truth), average="macro")
    assert metrics.macro_recall_at_1(logs, shown, clicked, 6).value() == pytest.approx(expected)


def test_macro_recall_leaves_out_tiles_that_were_never_clicked() -> None:
    logs = np.log(np.array([[0.9, 0.1], [0.9, 0.1]]))
    shown = np.array([[0, 1], [2, 0]])
    assert metrics.macro_recall_at_1(logs, shown, np.array([0, 1]), 5).value() == pytest.approx(0.5)


def test_micro_f1_is_scikit_learns() -> None:
    rng = np.random.default_rng(4)
    labels, given = rng.integers(0, 2, size=(2, 150, 7))
    expected = f1_score(labels, given, average="micro")
    assert metrics.micro_f1(given, labels).value() == pytest.approx(expected)


def test_micro_f1_of_nothing_given_and_nothing_true_is_zero() -> None:
    assert metrics.micro_f1(np.zeros((3, 2)), np.zeros((3, 2))).value() == 0.0


def test_a_metric_on_weighted_rows_is_the_metric_on_repeated_rows() -> None:
    rng = np.random.default_rng(5)
    labels, given = rng.integers(0, 2, size=(2, 20, 3))
    weights = rng.integers(0, 4, size=20)
    measured = metrics.micro_f1(given, labels)
    repeated = metrics.micro_f1(np.repeat(given, weights, axis=0), np.repeat(labels, weights, axis=0))
    assert float(measured.formula(weights @ measured.numbers)) == pytest.approx(repeated.value())


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
