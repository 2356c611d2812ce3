from __future__ import annotations

import numpy as np
from sklearn.metrics import f1_score

from models.evaluation.boosting import fit_boosted_head


def rows(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first label is what no linear model tells: both features on one side of 0."""
    x = rng.normal(size=(count, 2))
    return x, np.stack([x[:, 0] * x[:, 1] > 0, np.zeros(count)], axis=1).astype(np.float64)


def test_trees_tell_what_no_linear_head_can() -> None:
    rng = np.random.default_rng(0)
    head = fit_boosted_head(rows(rng, 900), rows(rng, 300), seed=1)
    x, labels = rows(rng, 400)
    given = head.probabilities(x) >= head.threshold
    assert f1_score(labels, given, average="micro") > 0.9


def test_a_label_that_training_never_had_is_never_given() -> None:
    rng = np.random.default_rng(0)
    head = fit_boosted_head(rows(rng, 400), rows(rng, 200), seed=1)
    assert head.probabilities(rows(rng, 50)[0])[:, 1].tolist() == [0.0] * 50


def test_the_same_seed_gives_the_same_trees() -> None:
    one, two = (
        fit_boosted_head(rows(np.random.default_rng(0), 400), rows(np.random.default_rng(1), 200), seed=5)
        for _ in range(2)
    )
    x = rows(np.random.default_rng(2), 50)[0]
    assert np.array_equal(one.probabilities(x), two.probabilities(x))
