"""The fused scorer's parts by themselves: encodings, trees as arrays, its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from streamer.models.evaluation.probe.tuning import exported, folds_of, tuned_linear, tuned_trees
from streamer.models.fused.encodings import TIMES, ClickEncoding, FeatureEncoding
from streamer.models.fused.heads import Scaling
from streamer.models.fused.scorer import FusedScorer, Inputs, ScorerFileError, faded
from tests.models.evaluation.probe_world import DAY_MS, HOUR_MS, a_session


def test_features_are_numbers_marks_of_missing_ones_and_categories() -> None:
    columns = {"age": [30.0, None, 50.0], "size": [1.0, 2.0, 3.0], "town": ["a", "b", "a"]}
    encoding = FeatureEncoding.fit(columns, range(3))
    assert (encoding.numbers, encoding.marked) == (("age", "size"), ("age",))
    assert encoding.categories == {"town": ("a", "b")}
    expected = [[30.0, 1.0, 0.0, 1.0, 0.0], [np.nan, 2.0, 1.0, 0.0, 1.0], [50.0, 3.0, 0.0, 1.0, 0.0]]
    assert np.array_equal(encoding.encode(columns), np.array(expected), equal_nan=True)


def test_what_training_rows_had_not_is_no_category() -> None:
    columns = {"town": ["a", "b", None, "c"]}
    encoding = FeatureEncoding.fit(columns, [0, 2])
    assert encoding.encode(columns).tolist() == [[1.0], [0.0], [0.0], [0.0]]


def test_clicks_are_counts_pairs_ends_and_times() -> None:
    session = a_session(1, "v", 4 * DAY_MS + 12 * HOUR_MS, ("/a", "/b", "/a"))
    encoding = ClickEncoding.fit([session] * 5)
    values = encoding.encode([session], np.array([session.closed_at + HOUR_MS]))[0]
    by_item = dict(zip(encoding.items, values[TIMES:], strict=True))
    assert by_item["page /a"] == pytest.approx(np.log(3))
    assert by_item["pair /a > /b"] == pytest.approx(np.log(2))
    assert {"first /a", "last /a", "last two /b > /a", "event page_view"} <= by_item.keys()
    lasted, step, clicks, _, since, _, _, weekend = values[:TIMES]
    assert (lasted, step, clicks) == pytest.approx((np.log1p(2.0), np.log1p(1.0), np.log1p(3.0)))
    assert since == pytest.approx(np.log1p(1.0))
    assert weekend == 0.0  # 5 January 1970 was a Monday
    assert ClickEncoding.fit([session] * 4).items == ()


def test_missing_numbers_are_scaled_to_the_mean_and_constants_to_nothing() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    assert Scaling.fit(values).apply(values).tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("classes", [2, 3])
def test_exported_trees_give_what_scikit_learn_gives(classes: int) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(300, 4))
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 3] = np.where(rng.random(300) < 0.5, np.nan, 1.0)
    labels = (np.nan_to_num(values[:, 0]) > 0).astype(int) + (np.isnan(values[:, 3]) & (classes == 3))
    trees = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=6).fit(values, labels)
    ours = np.exp(exported(trees, classes).log_probabilities(values))
    assert np.allclose(ours, trees.predict_proba(values), atol=1e-12)


def test_rare_classes_that_some_folds_lack_are_fitted_all_the_same() -> None:
    rng = np.random.default_rng(4)
    labels = np.array([0] * 30 + [1] * 30 + [2] * 2)
    values = rng.normal(size=(62, 3)) + labels[:, None]
    folds = folds_of(np.arange(62), labels, seed=0)
    for tuned in (tuned_linear(values, labels, 3, folds), tuned_trees(values, labels, 3, folds, seed=0)):
        assert np.allclose(np.exp(tuned.held_out).sum(axis=1), 1.0)
        assert np.isfinite(tuned.head.log_probabilities(values)).all()


def test_an_embedding_has_a_copy_that_fades_with_the_time_since_its_session_closed() -> None:
    session = a_session(1, "v", DAY_MS)
    inputs = Inputs({}, np.array([session.closed_at + 4 * DAY_MS]), [session], np.array([[2.0, -1.0]]))
    fading = np.exp(-1.0)
    assert faded(inputs)[0] == pytest.approx([2.0, -1.0, 2.0 * fading, -fading, fading])


def test_a_file_that_is_no_scorer_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "scorer.json"
    for content in (b"", b"[]", b"{}", b'{"format": "fused-scorer-1"}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ScorerFileError, match=r"scorer\.json: no fused scorer"):
            FusedScorer.load(path)
    path.write_bytes(b'{"format": "fused-scorer-9"}')
    with pytest.raises(ScorerFileError, match=r"'fused-scorer-9': expected 'fused-scorer-1'"):
        FusedScorer.load(path)


def test_a_missing_feature_is_named() -> None:
    features = FeatureEncoding.fit({"age": [1.0]}, [0])
    scorer = FusedScorer(("no", "yes"), DAY_MS, "space", features, ClickEncoding(()), (), 1.0)
    inputs = Inputs({"size": [1.0]}, np.array([0]), [a_session(1, "v", DAY_MS)], np.zeros((1, 2)))
    with pytest.raises(ScorerFileError, match="no column age"):
        scorer.probabilities(inputs)
