"""The whole protocol on made-up rows whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.evaluation.features import FeatureTable, LeakError
from models.evaluation.protocol import SplitError, evaluate_conversions, evaluate_tiles, fitting_parts
from models.evaluation.report import as_text
from models.evaluation.rows import ConversionRows, Decisions, TileRows
from models.evaluation.splits import Split, split_by_visitor

ROWS, INTENTS = 2_400, 4


@pytest.fixture(scope="module")
def world() -> tuple[np.random.Generator, Decisions, np.ndarray]:
    """Three rows a visitor, each with one of four intents."""
    rng = np.random.default_rng(0)
    visitors = tuple(f"v-{row // 3}" for row in range(ROWS))
    numbers = np.arange(ROWS)
    return rng, Decisions(numbers, visitors, numbers + 1_000, numbers), rng.integers(0, INTENTS, size=ROWS)


def table(name: str, values: np.ndarray) -> FeatureTable:
    return FeatureTable(name, values.astype(np.float64), np.zeros(len(values), dtype=np.int64))


def blurred(rng: np.random.Generator, intent: np.ndarray, right: float) -> np.ndarray:
    wrong = rng.integers(0, INTENTS, size=len(intent))
    return np.eye(INTENTS)[np.where(rng.random(len(intent)) < right, intent, wrong)]


def test_better_features_close_more_of_the_gap_and_noise_closes_none(
    world: tuple[np.random.Generator, Decisions, np.ndarray],
) -> None:
    rng, decisions, intent = world
    shown = np.array([rng.permutation(6)[:3] for _ in range(ROWS)])
    utility = 3.0 * (shown == intent[:, None]) + rng.gumbel(size=shown.shape)
    rows = TileRows(decisions, shown, utility.argmax(axis=1))
    contenders = {
        "good": [table("good", blurred(rng, intent, 0.8))],
        "poor": [table("poor", blurred(rng, intent, 0.3))],
        "noise": [table("noise", rng.normal(size=(ROWS, 4)))],
        "oracle": [table("oracle", np.eye(INTENTS)[intent])],
    }
    floor = table("app", rng.normal(size=(ROWS, 2)))
    report = evaluate_tiles(rows, 6, floor, contenders, split_by_visitor(decisions.visitor_ids), rng, 1_000)
    loss = report["metrics"]["log_loss"]
    assert loss["oracle"]["value"] < loss["good"]["value"] < loss["poor"]["value"] < loss["app_only"]["value"]
    assert loss["good"]["gap_closed"]["low"] > 0.3
    assert loss["noise"]["gap_closed"]["low"] < 0.05
    assert loss["noise"]["vs_app_only"]["p_holm"] > 0.05
    assert loss["good"]["vs_app_only"]["p_holm"] < 0.05
    assert (
        loss["good"]["vs_app_only"]["value"]
        < 0
        < report["metrics"]["macro_recall_at_1"]["good"]["vs_app_only"]["low"]
    )
    for entry in loss.values():
        assert entry["low"] <= entry["value"] <= entry["high"]
    assert "gap_closed" not in loss["oracle"]
    assert json.loads(json.dumps(report)) == report
    text = as_text("tiles", report)
    assert all(name in text for name in ("app_only", "good", "oracle", "log_loss", "macro_recall_at_1"))


def test_conversions_are_told_by_their_intent(
    world: tuple[np.random.Generator, Decisions, np.ndarray],
) -> None:
    rng, decisions, intent = world
    chances = np.where(np.arange(5) == intent[:, None], 0.6, 0.03)
    rows = ConversionRows(decisions, (rng.random((ROWS, 5)) < chances).astype(np.float64))
    contenders = {
        "half": [table("half", blurred(rng, intent, 0.6))],
        "oracle": [table("oracle", np.eye(INTENTS)[intent])],
    }
    floor = table("app", rng.normal(size=(ROWS, 2)))
    report = evaluate_conversions(rows, floor, contenders, split_by_visitor(decisions.visitor_ids), rng, 300)
    f1 = report["metrics"]["micro_f1"]
    assert f1["app_only"]["value"] < f1["half"]["value"] < f1["oracle"]["value"]
    assert 0.2 < f1["half"]["gap_closed"]["value"] < 0.8


def test_a_head_sees_the_training_and_the_validation_rows_and_no_other() -> None:
    split = Split(np.array([0, 3]), np.array([1]), np.array([2, 4]))
    train, validation = fitting_parts(split, np.arange(5), np.arange(5) * 10)
    assert [part.tolist() for part in train] == [[0, 3], [0, 30]]
    assert [part.tolist() for part in validation] == [[1], [10]]


@pytest.mark.parametrize("boosted", [(), ("x",)])
def test_nothing_that_is_fitted_depends_on_the_test_rows(
    world: tuple[np.random.Generator, Decisions, np.ndarray], boosted: tuple[str, ...]
) -> None:
    """Test rows whose features and outcomes are exchanged together are scored exactly as before."""
    _, decisions, intent = world
    rng = np.random.default_rng(1)
    split = split_by_visitor(decisions.visitor_ids)
    bought = (rng.random((ROWS, 3)) < np.where(np.arange(3) == intent[:, None], 0.6, 0.05)).astype(np.float64)
    own, added = rng.normal(size=(ROWS, 2)), np.eye(INTENTS)[intent] + 0.1 * rng.normal(size=(ROWS, INTENTS))

    def f1(test: np.ndarray) -> float:
        """With the test rows in the given order, and only the first hundred of them counted."""
        order = np.arange(ROWS)
        order[split.test] = test
        report = evaluate_conversions(
            ConversionRows(decisions, bought[order]),
            table("app", own[order]),
            {"x": [table("x", added[order])]},
            Split(split.train, split.validation, split.test[:100]),
            np.random.default_rng(2),
            50,
            boosted,
        )
        value: float = report["metrics"]["micro_f1"]["x"]["value"]
        return value

    others_swapped = np.concatenate([split.test[:100], split.test[100:][::-1]])
    assert f1(others_swapped) == f1(split.test)
    assert f1(split.test[::-1]) != f1(split.test)


def test_a_leak_stops_the_evaluation(world: tuple[np.random.Generator, Decisions, np.ndarray]) -> None:
    rng, decisions, _ = world
    rows = ConversionRows(decisions, (rng.random((ROWS, 5)) < 0.3).astype(np.float64))
    outcome = FeatureTable("outcome", rows.bought, decisions.at + 1)
    with pytest.raises(LeakError, match="outcome"):
        evaluate_conversions(
            rows,
            table("app", np.ones((ROWS, 1))),
            {"x": [outcome]},
            split_by_visitor(decisions.visitor_ids),
            rng,
        )


def test_a_split_without_rows_is_refused(world: tuple[np.random.Generator, Decisions, np.ndarray]) -> None:
    rng, decisions, _ = world
    rows = ConversionRows(decisions, np.zeros((ROWS, 5)))
    nobody = Split(np.arange(10), np.arange(10, 20), np.array([], dtype=np.int64))
    with pytest.raises(SplitError, match="no test rows"):
        evaluate_conversions(rows, table("app", np.ones((ROWS, 1))), {}, nobody, rng)


def test_the_floor_cannot_be_a_contender(world: tuple[np.random.Generator, Decisions, np.ndarray]) -> None:
    rng, decisions, _ = world
    rows = ConversionRows(decisions, np.zeros((ROWS, 5)))
    with pytest.raises(ValueError, match="app_only is the floor"):
        evaluate_conversions(
            rows,
            table("app", np.ones((ROWS, 1))),
            {"app_only": []},
            split_by_visitor(decisions.visitor_ids),
            rng,
        )
