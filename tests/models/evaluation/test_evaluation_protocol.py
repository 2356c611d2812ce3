"""The whole protocol on made-up rows whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamer.models.evaluation.features import FeatureTable, LeakError
from streamer.models.evaluation.protocol import (
    Kinds,
    SplitError,
    fitting_parts,
    measure_conversions,
    measure_tiles,
    report_of,
    resample_rows,
)
from streamer.models.evaluation.splits import Split, split_by_visitor
from streamer.models.evaluation.task_rows import ConversionRows, Decisions, TileRows

ROWS, INTENTS = 2_400, 4


@pytest.fixture(scope="module")
def data() -> tuple[np.random.Generator, Decisions, np.ndarray]:
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
    data: tuple[np.random.Generator, Decisions, np.ndarray],
) -> None:
    rng, decisions, intent = data
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
    split = split_by_visitor(decisions.visitor_ids)
    measured = measure_tiles(rows, 6, floor, contenders, split)
    report = report_of(resample_rows(measured, decisions, split, rng, 1_000), decisions, split)
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


def test_conversions_are_told_by_their_intent(
    data: tuple[np.random.Generator, Decisions, np.ndarray],
) -> None:
    rng, decisions, intent = data
    chances = np.where(np.arange(5) == intent[:, None], 0.6, 0.03)
    rows = ConversionRows(decisions, (rng.random((ROWS, 5)) < chances).astype(np.float64))
    contenders = {
        "half": [table("half", blurred(rng, intent, 0.6))],
        "oracle": [table("oracle", np.eye(INTENTS)[intent])],
    }
    floor = table("app", rng.normal(size=(ROWS, 2)))
    split = split_by_visitor(decisions.visitor_ids)
    measured = measure_conversions(rows, floor, contenders, split)
    report = report_of(resample_rows(measured, decisions, split, rng, 300), decisions, split)
    f1 = report["metrics"]["micro_f1"]
    assert f1["app_only"]["value"] < f1["half"]["value"] < f1["oracle"]["value"]
    assert 0.2 < f1["half"]["gap_closed"]["value"] < 0.8


def test_an_average_gives_no_share_to_what_knows_nothing(
    data: tuple[np.random.Generator, Decisions, np.ndarray],
) -> None:
    _, decisions, intent = data
    rng = np.random.default_rng(2)
    bought = (rng.random((ROWS, 4)) < np.where(np.arange(4) == intent[:, None], 0.7, 0.03)).astype(np.float64)
    shown = np.array([rng.permutation(6)[:3] for _ in range(ROWS)])
    utility = 3.0 * (shown == intent[:, None]) + rng.gumbel(size=shown.shape)
    contenders = {
        "one": [table("one", blurred(rng, intent, 0.7))],
        "other": [table("other", blurred(rng, intent, 0.7))],
        "noise": [table("noise", rng.normal(size=(ROWS, 4)))],
    }
    averaged = {"both": ("one", "other"), "with noise": ("noise", "one")}
    kinds = Kinds(boosted=("other",), averaged=averaged)
    floor, split = table("app", rng.normal(size=(ROWS, 2))), split_by_visitor(decisions.visitor_ids)
    f1 = measure_conversions(ConversionRows(decisions, bought), floor, contenders, split, kinds)["micro_f1"]
    clicked = TileRows(decisions, shown, utility.argmax(axis=1))
    loss = measure_tiles(clicked, 6, floor, contenders, split, kinds)["log_loss"]
    assert f1["both"].value() > max(f1["one"].value(), f1["other"].value())
    assert loss["both"].value() < min(loss["one"].value(), loss["other"].value())
    assert f1["with noise"].value() == pytest.approx(f1["one"].value(), abs=0.01)
    assert loss["with noise"].value() == pytest.approx(loss["one"].value(), abs=0.01)


def test_a_head_sees_the_training_and_the_validation_rows_and_no_other() -> None:
    split = Split(np.array([0, 3]), np.array([1]), np.array([2, 4]))
    train, validation = fitting_parts(split, np.arange(5), np.arange(5) * 10)
    assert [part.tolist() for part in train] == [[0, 3], [0, 30]]
    assert [part.tolist() for part in validation] == [[1], [10]]


@pytest.mark.parametrize("boosted", [(), ("x",)])
def test_nothing_that_is_fitted_depends_on_the_test_rows(
    data: tuple[np.random.Generator, Decisions, np.ndarray], boosted: tuple[str, ...]
) -> None:
    """Test rows whose features and outcomes are exchanged together are scored exactly as before."""
    _, decisions, intent = data
    rng = np.random.default_rng(1)
    split = split_by_visitor(decisions.visitor_ids)
    bought = (rng.random((ROWS, 3)) < np.where(np.arange(3) == intent[:, None], 0.6, 0.05)).astype(np.float64)
    own, added = rng.normal(size=(ROWS, 2)), np.eye(INTENTS)[intent] + 0.1 * rng.normal(size=(ROWS, INTENTS))

    def f1(test: np.ndarray) -> float:
        """With the test rows in the given order, and only the first hundred of them counted."""
        order = np.arange(ROWS)
        order[split.test] = test
        measured = measure_conversions(
            ConversionRows(decisions, bought[order]),
            table("app", own[order]),
            {"x": [table("x", added[order])]},
            Split(split.train, split.validation, split.test[:100]),
            Kinds(boosted=boosted),
        )
        return measured["micro_f1"]["x"].value()

    others_swapped = np.concatenate([split.test[:100], split.test[100:][::-1]])
    assert f1(others_swapped) == f1(split.test)
    assert f1(split.test[::-1]) != f1(split.test)


def test_a_leak_stops_the_evaluation(data: tuple[np.random.Generator, Decisions, np.ndarray]) -> None:
    rng, decisions, _ = data
    rows = ConversionRows(decisions, (rng.random((ROWS, 5)) < 0.3).astype(np.float64))
    outcome = FeatureTable("outcome", rows.bought, decisions.at + 1)
    with pytest.raises(LeakError, match="outcome"):
        measure_conversions(
            rows,
            table("app", np.ones((ROWS, 1))),
            {"x": [outcome]},
            split_by_visitor(decisions.visitor_ids),
        )


def test_a_split_without_rows_is_refused(data: tuple[np.random.Generator, Decisions, np.ndarray]) -> None:
    _rng, decisions, _ = data
    rows = ConversionRows(decisions, np.zeros((ROWS, 5)))
    nobody = Split(np.arange(10), np.arange(10, 20), np.array([], dtype=np.int64))
    with pytest.raises(SplitError, match="no test rows"):
        measure_conversions(rows, table("app", np.ones((ROWS, 1))), {}, nobody)


def test_the_floor_cannot_be_a_contender(data: tuple[np.random.Generator, Decisions, np.ndarray]) -> None:
    _rng, decisions, _ = data
    rows = ConversionRows(decisions, np.zeros((ROWS, 5)))
    with pytest.raises(ValueError, match="app_only is the floor"):
        measure_conversions(
            rows,
            table("app", np.ones((ROWS, 1))),
            {"app_only": []},
            split_by_visitor(decisions.visitor_ids),
        )
