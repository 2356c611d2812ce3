"""Boosted trees on top of scores: for tiles with a softmax over those shown, for products one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import check_grad

from streamer.models.evaluation.boosted import Bought, Clicked, Outcome, boosted_scores
from streamer.models.evaluation.splits import Split

# Columns are there five times each: a tree sees only some of them.
World = Callable[[np.random.Generator], tuple[np.ndarray, Outcome]]
ROWS = 1_600
SPLIT = Split(np.arange(900), np.arange(900, 1_200), np.arange(1_200, ROWS))


def purchases(rng: np.random.Generator) -> tuple[np.ndarray, Bought]:
    """The first is bought where both features are on one side of 0, the second never."""
    x = rng.normal(size=(ROWS, 2))
    return np.tile(x, 5), Bought(np.stack([x[:, 0] * x[:, 1] > 0, np.zeros(ROWS)], axis=1).astype(np.float64))


def clicks(rng: np.random.Generator) -> tuple[np.ndarray, Clicked]:
    """Of 5 tiles 3 are shown; one draws where both features are on one side of 0, one elsewhere."""
    x = rng.normal(size=(ROWS, 2))
    utility = np.zeros((ROWS, 5))
    utility[np.arange(ROWS), np.where(x[:, 0] * x[:, 1] > 0, 0, 1)] = 4.0
    shown = np.array([rng.permutation(5)[:3] for _ in range(ROWS)])
    seen = np.take_along_axis(utility, shown, axis=1) + rng.gumbel(size=shown.shape)
    return np.tile(x, 5), Clicked(shown, seen.argmax(axis=1))


@pytest.mark.parametrize("of", [purchases, clicks])
def test_slopes_are_those_of_the_losses(of: World) -> None:
    outcome: Outcome = of(np.random.default_rng(0))[1].of(np.arange(20))
    start = np.random.default_rng(1).normal(size=(20, 5 if of is clicks else 2))

    def loss(flat: np.ndarray) -> float:
        return 20 * outcome.loss(flat.reshape(start.shape))

    def slope(flat: np.ndarray) -> np.ndarray:
        return outcome.slope(flat.reshape(start.shape))[0].ravel()

    assert check_grad(loss, slope, start.ravel()) < 1e-4


@pytest.mark.parametrize(("of", "width"), [(purchases, 2), (clicks, 5)])
def test_trees_tell_what_no_linear_head_can(of: World, width: int) -> None:
    x, outcome = of(np.random.default_rng(0))
    start = np.zeros((ROWS, width))
    scores = boosted_scores(x, start, outcome, SPLIT)
    tested = outcome.of(SPLIT.test)
    assert tested.loss(scores[SPLIT.test]) < 0.7 * tested.loss(start[SPLIT.test])


@pytest.mark.parametrize("train", [6, 900])
def test_where_columns_say_nothing_scores_stay_about_as_they_were(train: int) -> None:
    rng = np.random.default_rng(0)
    chances = rng.random((ROWS, 3))
    outcome = Bought((rng.random((ROWS, 3)) < chances).astype(np.float64))
    start = np.log(chances / (1.0 - chances))
    split = Split(np.arange(train), SPLIT.validation, SPLIT.test)
    scores = boosted_scores(rng.normal(size=(ROWS, 4)), start, outcome, split)
    tested = outcome.of(split.test)
    assert tested.loss(scores[split.test]) < 1.01 * tested.loss(start[split.test])


def test_a_tile_that_is_not_shown_has_no_part_in_the_loss() -> None:
    outcome = Clicked(np.array([[0, 2]]), np.array([1]))
    scores = np.array([[0.3, -1.0, 0.1]])
    assert outcome.slope(scores)[0][0, 1] == 0.0
    assert outcome.loss(scores) == outcome.loss(scores + np.array([[0.0, 9.0, 0.0]]))


def test_the_same_rows_give_the_same_trees() -> None:
    x, outcome = clicks(np.random.default_rng(2))
    one, two = (boosted_scores(x, np.zeros((ROWS, 5)), outcome, SPLIT, seed=5) for _ in range(2))
    assert np.array_equal(one, two)
