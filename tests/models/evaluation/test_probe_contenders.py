"""What is fused, and who decides how much of it is the embedding: labelled rows, held out in turn."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.models.evaluation.probe.contenders import (
    CONTENDERS,
    FUSED,
    HAND,
    HeadName,
    blend,
    heads_of,
    settled,
)
from streamer.models.evaluation.probe.tuning import Tuned, folds_of, tuned_trees
from streamer.models.fused.heads import LinearHead, Scaling, log_softmax

ONE, OTHER = HeadName("features", "linear"), HeadName("embedding", "linear")
LABELS = np.array([0, 1] * 50)


def tuned(towards: float, seed: int = 6) -> Tuned:
    """Held-out logits that lean towards the truth by so much, with some noise."""
    rng = np.random.default_rng(seed)
    logit = towards * (2.0 * LABELS - 1.0) + rng.normal(size=len(LABELS))
    head = LinearHead(Scaling(np.zeros(1), np.ones(1)), np.zeros((1, 2)), np.zeros(2))
    return Tuned(head, log_softmax(np.stack([-logit, logit], axis=1)))


@pytest.mark.parametrize(("of_other", "share"), [(-1.0, 0.0), (3.0, 0.75)])
def test_the_embedding_gets_the_share_that_held_out_rows_speak_for(of_other: float, share: float) -> None:
    choice = [blend({ONE: 1.0}, {OTHER: 1.0}, each) for each in (0.0, 0.25, 0.5, 0.75)]
    weights, _ = settled({ONE: tuned(0.5), OTHER: tuned(of_other, seed=7)}, choice, LABELS)
    assert weights[OTHER] == share


def test_what_is_averaged_can_be_made_sharper_again() -> None:
    alone = settled({ONE: tuned(0.5)}, [{ONE: 1.0}], LABELS)[1]
    halved = settled({ONE: tuned(0.5), OTHER: tuned(0.0)}, [{ONE: 0.5, OTHER: 0.0}], LABELS)[1]
    assert halved == pytest.approx(2.0 * alone, rel=0.15)


def test_hand_is_all_that_is_made_without_the_embedding_in_equal_parts() -> None:
    (hand,) = CONTENDERS[HAND]
    assert set(hand.values()) == {0.25}
    assert {name.reads for name in hand} == {"features", "clicks"}
    for weights in CONTENDERS[FUSED]:
        assert sum(weights.values()) == pytest.approx(1.0)
    assert heads_of([CONTENDERS[FUSED]]) == [*hand, OTHER]


def test_trees_leave_out_a_column_in_which_all_is_missing() -> None:
    rng = np.random.default_rng(0)
    known, labels = rng.normal(size=(60, 1)), np.repeat([0, 1], 30)
    folds = folds_of(np.arange(60), labels, 0)
    held_out = [
        tuned_trees(np.hstack([known, np.full((60, 1), other)]), labels, 2, folds, 0).held_out
        for other in (np.nan, 0.0)
    ]
    np.testing.assert_array_equal(*held_out)
