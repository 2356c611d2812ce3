from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from streamer.models.evaluation import heads
from streamer.models.evaluation.heads import (
    NONE_FIXED,
    FixedPenalty,
    best_threshold,
    fit_label_head,
    fit_tile_head,
)
from streamer.models.fused.heads import Scaling


def labelled(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(rows, 3))
    logits = x @ np.array([[2.0, 0.0], [0.0, -2.0], [0.0, 0.0]])
    return x, (rng.random((rows, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float64)


def clicked(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature t draws to tile t; 5 tiles, 3 slots."""
    x = rng.normal(size=(rows, 5))
    shown = np.array([rng.permutation(5)[:3] for _ in range(rows)])
    utility = 2.0 * np.take_along_axis(x, shown, axis=1) + rng.gumbel(size=(rows, 3))
    return x, shown, utility.argmax(axis=1)


def test_the_label_head_is_scikit_learns_logistic_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, labels = labelled(rng, 400)
    monkeypatch.setattr(heads, "PENALTIES", (0.01,))
    monkeypatch.setattr(heads, "TOLERANCE", 1e-8)
    ours = fit_label_head((x, labels), (x, labels)).probabilities(x)
    scaled = Scaling.fit(x).apply(x)
    for label in range(2):
        theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-8).fit(scaled, labels[:, label])
        assert ours[:, label] == pytest.approx(theirs.predict_proba(scaled)[:, 1], abs=2e-3)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_slopes_are_those_of_the_losses(penalty: float) -> None:
    rng = np.random.default_rng(1)
    x, shown, chosen = clicked(rng, 30)
    by_column = FixedPenalty(2, 0.7).by_column(5, penalty)
    tile_loss = heads._tile_loss(x, shown, chosen, 5, by_column)
    start = rng.normal(size=5 * 5 + 5 + 3)
    assert check_grad(lambda f: tile_loss(f)[0], lambda f: tile_loss(f)[1], start) < 1e-5
    x, labels = labelled(rng, 30)
    label_loss = heads._label_loss(x, labels, by_column[:3])
    start = rng.normal(size=(3 + 1) * 2)
    assert check_grad(lambda f: label_loss(f)[0], lambda f: label_loss(f)[1], start) < 1e-5


def test_the_tile_head_learns_which_feature_draws_to_which_tile() -> None:
    rng = np.random.default_rng(2)
    head = fit_tile_head(clicked(rng, 1_500), clicked(rng, 400), 5)
    x, shown, chosen = clicked(rng, 800)
    logs = head.log_probabilities(x, shown)
    assert np.exp(logs).sum(axis=1) == pytest.approx(np.ones(800))
    true = 2.0 * np.take_along_axis(x, shown, axis=1)
    best = (true.argmax(axis=1) == chosen).mean()
    assert (logs.argmax(axis=1) == chosen).mean() > best - 0.03


def test_a_tile_that_is_not_shown_gets_no_share() -> None:
    rng = np.random.default_rng(2)
    head = fit_tile_head(clicked(rng, 300), clicked(rng, 100), 5)
    x = rng.normal(size=(1, 5))
    two = np.exp(head.log_probabilities(x, np.array([[0, 1, 2]])))
    other = np.exp(head.log_probabilities(x, np.array([[0, 1, 4]])))
    assert two[0, 0] / two[0, 1] == pytest.approx(other[0, 0] / other[0, 1])


def test_without_any_signal_the_strongest_penalty_wins() -> None:
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(300, 40)), rng.integers(0, 2, size=(300, 2)).astype(np.float64)
    head = fit_label_head((x[:200], labels[:200]), (x[200:], labels[200:]))
    assert head.penalty >= 0.3


def test_settled_columns_keep_their_penalty() -> None:
    assert FixedPenalty(2, 0.5).by_column(4, 0.1).ravel().tolist() == [0.5, 0.5, 0.1, 0.1]
    assert NONE_FIXED.by_column(2, 0.1).ravel().tolist() == [0.1, 0.1]


def test_the_threshold_is_the_best_of_all_possible_ones() -> None:
    rng = np.random.default_rng(5)
    chances = rng.random((60, 3)).round(2)
    labels = (rng.random((60, 3)) < chances).astype(np.float64)
    best = max(f1_score(labels, chances >= t, average="micro") for t in np.unique(chances))
    found = best_threshold(chances, labels)
    assert f1_score(labels, chances >= found, average="micro") == pytest.approx(best)


def test_with_no_true_label_none_is_given() -> None:
    assert best_threshold(np.array([[0.4, 0.2]]), np.zeros((1, 2))) == 1.0


def test_the_same_rows_give_the_same_head() -> None:
    one, two = (
        fit_label_head(labelled(np.random.default_rng(7), 200), labelled(np.random.default_rng(8), 80))
        for _ in "ab"
    )
    assert np.array_equal(one.weights, two.weights)
