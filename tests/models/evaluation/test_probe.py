"""The probe on a world whose truth is known: a gain where there is one, none where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamer.models.evaluation.metrics import auroc
from streamer.models.evaluation.probe.contenders import BY_MEMBERSHIPS, CONTENDERS, EMBEDDING, FUSED, HAND
from streamer.models.evaluation.probe.experiment import ProbePlan, fused_scorer, probe
from streamer.models.evaluation.probe.intervals import Resampling, ScoredDraw, auc, log_loss
from streamer.models.fused.scorer import FusedScorer
from tests.models.evaluation.probe_world import a_world


def measured(draws: int, labels: tuple[int, ...] = (60,), **world: Any) -> dict[str, Any]:
    return probe(a_world(**world), ProbePlan(labels, draws, resampled=300), lambda *_: None)


def test_an_embedding_that_knows_more_is_a_gain_at_every_number_of_labels() -> None:
    found = measured(draws=2, labels=(60, 10_000))
    assert [level["labels"] for level in found["levels"]] == [60, 374]
    assert [level["all"] for level in found["levels"]] == [False, True]
    for level in found["levels"]:
        assert level["gain"]["auc"]["low"] > 0.05
        assert level["gain"]["log_loss"]["low"] > 0.0
        assert level["contenders"][FUSED]["auc"]["value"] > level["contenders"][HAND]["auc"]["value"]
        assert set(level["contenders"]) == set(CONTENDERS)
    assert "gain at 60 labels (AUC +" in found["verdict"]
    assert sum(found["classes"].values()) == found["rows"] == 500


def test_memberships_that_know_more_than_the_vector_are_shown_beside_it_and_alone() -> None:
    rows = a_world(visitors=120, in_vector=0.0)
    rng = np.random.default_rng(4)
    told = np.where(rng.random(len(rows.labels)) < 0.9, rows.labels, 1 - rows.labels)
    plan = ProbePlan((), 2, resampled=100)
    (level,) = probe(replace(rows, memberships=np.eye(2)[told]), plan, lambda *_: None)["levels"]
    assert set(level["contenders"]) == {*CONTENDERS, *BY_MEMBERSHIPS}
    assert level["gain_of_memberships"]["auc"]["low"] > 0.05
    for name in ("memberships", "embedding, memberships"):
        assert (
            level["contenders"][name]["auc"]["value"] > level["contenders"][EMBEDDING]["auc"]["value"] + 0.2
        )
    assert level["gain"]["auc"]["low"] < 0.05


def test_shuffled_outcomes_give_no_gain() -> None:
    """Whatever leaked from test rows would show as one."""
    found = measured(draws=3, shuffled=True)
    for level in found["levels"]:
        for metric in ("auc", "log_loss"):
            assert level["gain"][metric]["low"] < 0.0 < level["gain"][metric]["high"], level["gain"]
        for contender in level["contenders"].values():
            assert contender["auc"]["low"] < 0.5 < contender["auc"]["high"]
    assert found["verdict"].count("gain nothing that shows") == 2


def test_more_than_two_classes_are_measured_each_against_the_rest() -> None:
    found = measured(draws=1, labels=(), outcomes=("card", "loan"))
    assert list(found["classes"]) == ["(none)", "card", "loan"]
    (level,) = found["levels"]
    assert level["gain"]["auc"]["low"] > 0.05


@pytest.mark.parametrize("outcomes", [("loan",), ("card", "loan")])
def test_a_scorer_that_was_written_and_read_gives_the_same_scores(outcomes: tuple[str, ...]) -> None:
    rows = a_world(outcomes=outcomes)
    scorer = fused_scorer(rows)
    again = FusedScorer.loads(scorer.dumps())
    chances = again.probabilities(rows.inputs)
    assert np.array_equal(chances, scorer.probabilities(rows.inputs))
    assert np.allclose(chances.sum(axis=1), 1.0)
    assert (chances.argmax(axis=1) == rows.labels).mean() > 0.8
    assert again.classes == rows.classes


def test_auc_under_weights_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(5, size=40) / 5.0
    labels = rng.integers(2, size=40)
    times = rng.integers(3, size=40)
    tested = ScoredDraw(np.arange(40), labels, np.stack([-scores, scores], axis=1))
    repeated = np.repeat(np.arange(40), times)
    assert auc(tested, times[None].astype(float))[0] == pytest.approx(
        auroc(scores[repeated], labels[repeated] == 1)
    )
    assert np.isnan(auc(tested, np.zeros((1, 40)))[0])


def test_log_loss_under_weights_is_that_of_repeated_rows() -> None:
    logs = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    tested = ScoredDraw(np.arange(2), np.array([1, 0]), logs)
    assert log_loss(tested, np.array([[3.0, 1.0]]))[0] == pytest.approx(-(3 * np.log(0.75) + np.log(0.5)) / 4)


def test_intervals_cover_draws_as_well_as_owners() -> None:
    """Each draw's rows agree with each other, and the draws don't: all width comes from the draws."""
    labels = np.tile([0, 1], 20)
    right = np.stack([1.0 - labels, labels], axis=1)
    draws = [ScoredDraw(np.arange(40), labels, sign * right) for sign in (1.0, 1.0, 1.0, -1.0)]
    estimate = Resampling.of(40, 4, seed=0).apply(draws, auc).estimate()
    assert estimate.value == pytest.approx(0.75)
    assert estimate.low < 0.5
    assert estimate.high == pytest.approx(1.0)
