"""The steps of an evaluation on a tiny simulated data: they run, go on where they were, see no outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.core.rules import SessionRules
from streamer.models.baselines.registry import CONTENDERS
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.evaluation import (
    steps_ablations,
    steps_baselines,
    steps_memberships,
    steps_scaling,
    steps_sensitivity,
    steps_slices,
)
from streamer.models.evaluation.bootstrap import resample
from streamer.models.evaluation.experiment import Experiment, Scale
from streamer.models.evaluation.protocol import SplitError, measure_conversions, resample_rows
from streamer.models.evaluation.report import figures
from streamer.models.evaluation.result_store import MissingResultError, ResultStore
from streamer.models.evaluation.simulated_data import SimulatedData, simulate_data
from streamer.models.evaluation.splits import split_by_visitor, split_forward
from streamer.models.evaluation.steps_baselines import few_labels
from streamer.models.evaluation.steps_main import main_table, session_features, student_table
from streamer.models.evaluation.steps_sensitivity import time_forward
from streamer.models.evaluation.task_rows import ConversionRows
from streamer.models.evaluation.training_runs import SplitMasks, without
from streamer.models.simulator import SimulatorConfig
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.visitor_splits import percent_of
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import Session

TINY = Scale(
    visitors=250,
    seeds=(11,),
    epochs=1,
    short_epochs=1,
    small_sessions=400,
    reader_visitors=250,
    labelled=300,
    draws=50,
)


def cut(path: Path) -> list[Session]:
    return sessions_of_file(path, SessionRules()).sessions


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("evaluation")
    return Experiment(ResultStore(folder / "results", folder / "cache"), cut, TINY)


@pytest.fixture(scope="module")
def data(experiment: Experiment) -> SimulatedData:
    return experiment.data(11)


def test_main_and_student_give_every_figure_with_its_interval(experiment: Experiment) -> None:
    found = figures({"main": main_table(experiment), "student": student_table(experiment)})
    labellers = {"embedding", "teacher", "distilled_hard", "distilled_soft", "both"}
    f1 = found["conversion_micro_f1"]
    assert set(f1) == labellers | {f"{name}_interval" for name in labellers}
    assert {"log_loss_vs_app_only", "macro_recall_at_1_vs_app_only"} <= set(found["tile"])
    assert {"tile_log_loss", "conversion_micro_f1"} <= set(found["gap_closed"])
    for figure in (found, f1, found["tile"]):
        for name in [each for each in figure if f"{each}_interval" in figure]:
            low, high = figure[f"{name}_interval"]
            assert low <= high
    assert json.loads(json.dumps(found)) == found


def test_baselines_are_measured_where_no_validation_visitors_are_left_to_tune_on(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_baselines, "BASELINE_SEEDS", (11,))
    monkeypatch.setattr(steps_baselines, "BASELINE_DRAWS", 2)
    found = steps_baselines.baselines(experiment)
    assert set(found["costs"]) == set(CONTENDERS)
    assert {cost["learning_rate"] for cost in found["costs"].values()} == {TrainConfig().learning_rate}
    known = replace(experiment, store=replace(experiment.store, known_only=True))
    assert steps_baselines.baselines(known) == found
    monkeypatch.delitem(steps_baselines.CONTENDERS, "icl")
    with pytest.raises(MissingResultError):
        steps_baselines.baselines(known)


def test_the_learning_curve_goes_through_the_figures_of_the_baselines(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "BASELINE_SEEDS": (11,),
        "BASELINE_DRAWS": 2,
        "FEW_LABELS": 120,
        "CURVE_LABELS": (60, 120),
        "CURVE_DRAWS": 2,
        "CONTENDERS": {name: CONTENDERS[name] for name in steps_baselines.CURVE_ENCODERS},
    }.items():
        monkeypatch.setattr(steps_baselines, name, value)
    points = steps_baselines.learning_curve(experiment)["points"]
    assert [point["labels"] for point in points] == [60, 120]
    assert points[0]["micro_f1"] != points[1]["micro_f1"]
    few = steps_baselines.baselines(experiment)
    assert few["micro_f1"] == points[1]["micro_f1"]
    assert few["ours_versus"] == points[1]["ours_versus"]
    assert set(few["ours_versus"]) == {"coles", "bag", "bag_trees"}


def test_ablations_say_how_much_more_of_the_gap_each_closes_than_with_everything(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_baselines, "BASELINE_SEEDS", (11, 12))
    monkeypatch.setattr(steps_ablations, "OBJECTIVES", ("masked", "contrast"))
    monkeypatch.setattr(steps_ablations, "MODALITIES", {"pages": ("page_type", "path_1")})
    rows = steps_ablations.ablations(experiment)["rows"]
    variants = {
        "objective masked alone",
        "objective masked added",
        "objective contrast alone",
        "objective contrast left out",
        "objective rest in every batch",
        "events of pages shown and asked",
        "modality pages left out",
    }
    assert set(rows) == {"full", *variants}
    for metric, full in rows["full"].items():
        assert set(full) == {"gap_closed"}
        for name in variants:
            more, closed = rows[name][metric]["than_full"], rows[name][metric]["gap_closed"]
            assert more["value"] == pytest.approx(closed["value"] - full["gap_closed"]["value"], abs=2e-4)
            assert more["low"] <= more["value"] <= more["high"]
    # The rest of the session is none of those that are left out here, so it is the same encoder.
    assert rows["objective contrast alone"]["micro_f1"]["than_full"]["p_holm"] == 1.0
    known = replace(experiment, store=replace(experiment.store, known_only=True))
    assert steps_ablations.ablations(known)["rows"] == rows
    monkeypatch.setattr(steps_ablations, "MODALITIES", {"pages": ("page_type",)})
    with pytest.raises(MissingResultError):
        steps_ablations.ablations(known)


def test_a_second_run_computes_nothing(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    first = main_table(experiment)
    again = Experiment(experiment.store, lambda _: pytest.fail("cut again"), TINY)
    assert main_table(again) == first


def test_another_scale_is_another_result(experiment: Experiment) -> None:
    other = Experiment(experiment.store, experiment.cut, replace(TINY, labelled=200))
    assert other.of_features(11) != experiment.of_features(11)


def test_features_of_sessions_are_those_of_all_contenders(
    experiment: Experiment, data: SimulatedData
) -> None:
    features = session_features(experiment, 11)
    assert {len(values) for values in features.values()} == {len(data.sessions)}
    assert features["both"].shape[1] == 64 + len(data.names)
    assert np.array_equal(features["teacher"], features["teacher_85%"])


def test_by_time_nothing_decided_in_the_test_period_is_learnt_from(data: SimulatedData) -> None:
    rows = data.conversions.decisions
    wait = 14 * 86_400_000
    split = split_forward(rows.at, rows.visitor_ids, wait)
    assert (rows.at[split.train] + wait).max() < rows.at[split.test].min()
    trained, validated = (
        {rows.visitor_ids[row] for row in part.tolist()} for part in (split.train, split.validation)
    )
    assert not trained & validated


def test_the_split_by_time_runs(experiment: Experiment) -> None:
    found = time_forward(experiment)
    assert found["pretraining_sessions"] < len(experiment.data(11).sessions)
    assert "embedding" in found["tiles"]["metrics"]["log_loss"]


def test_transfer_tests_each_kind_of_visitor_with_heads_of_each(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_sensitivity, "SHIFTS", (0.3,))
    rows = steps_sensitivity.transfer(experiment)["rows"]
    kinds = ("logged_in", "never_login")
    assert {(row["fitted_on"], row["tested_on"]) for row in rows} == {(a, b) for a in kinds for b in kinds}
    monkeypatch.setattr(steps_sensitivity, "SHIFTS", (0.3, 0.9))
    known = replace(experiment, store=replace(experiment.store, known_only=True))
    assert steps_sensitivity.transfer(known)["rows"] == rows


def test_with_permuted_outcomes_even_the_oracle_gains_nothing(data: SimulatedData) -> None:
    rng = np.random.default_rng(0)
    rows = data.conversions
    permuted = ConversionRows(rows.decisions, rows.bought[rng.permutation(len(rows.bought))])
    split = split_by_visitor(rows.decisions.visitor_ids)
    oracle = {"oracle": [data.conversion_features("oracle", data.oracle)]}
    found = measure_conversions(permuted, data.conversion_floor, oracle, split)
    draws = resample_rows(found, rows.decisions, split, rng, 300)
    gain = draws["micro_f1/oracle"].draws - draws["micro_f1/app_only"].draws
    assert np.quantile(gain, 0.025) < 0.0


def test_few_labels_are_as_many_as_said_of_whole_visitors_and_the_test_rows_stay(data: SimulatedData) -> None:
    rows = data.conversions.decisions
    first, second = few_labels(data, 100, 0), few_labels(data, 100, 1)
    assert len(first.train) + len(first.validation) == 100
    assert np.array_equal(first.test, second.test)
    assert not np.array_equal(first.train, second.train)
    assert all(percent_of(rows.visitor_ids[row]) < 60 for row in first.train.tolist())
    assert all(60 <= percent_of(rows.visitor_ids[row]) < 75 for row in first.validation.tolist())


def test_parts_hold_every_session_once(data: SimulatedData) -> None:
    parts = SplitMasks.of(data.sessions)
    assert (parts.train.astype(int) + parts.validation + parts.test == 1).all()


def test_a_hidden_modality_is_in_no_token(data: SimulatedData) -> None:
    tokenizer = Tokenizer.fit(data.sessions)
    corpus = without(Corpus.of(data.sessions, tokenizer), ("path_1", "dwell", "query", "device"))
    shown = Corpus.of(data.sessions, tokenizer)
    for blank, bucket in zip(corpus.buckets, shown.buckets, strict=True):
        assert blank.tokens.event_ids[:, :, 1].max() == 0 < bucket.tokens.event_ids[:, :, 1].max()
        assert blank.tokens.dwell_z.abs().max() == 0 < bucket.tokens.dwell_z.abs().max()
        assert blank.tokens.query_slot.max() == 0
        assert blank.tokens.session_ids[:, 0].max() == 0
        assert blank.tokens.event_ids[:, :, 0].equal(bucket.tokens.event_ids[:, :, 0])


def test_draws_of_nobody_with_an_outcome_leave_an_interval_of_the_others() -> None:
    from streamer.models.evaluation.metrics import micro_f1

    given = np.array([[1.0], [0.0]])
    found = resample({"f1": micro_f1(given, given)}, np.array([0, 1]), np.random.default_rng(0), 200)
    assert found["f1"].estimate().high == 1.0


def test_memberships_are_compared_with_the_vector_of_the_same_bundle(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(default_bundle())
    monkeypatch.setattr(steps_memberships, "SEEDS", (61,))
    found = steps_memberships.memberships(experiment, bundle)
    names = {"app_only", "embedding", "memberships", "embedding_and_memberships", "oracle"}
    assert set(found["tiles"]["log_loss"]) == set(found["conversions"]["micro_f1"]) == names
    for metric, by_name in found["gained"].items():
        of_task = found["conversions" if metric == "micro_f1" else "tiles"][metric]
        for name, more in by_name.items():
            expected = of_task[name]["gap_closed"]["value"] - of_task["embedding"]["gap_closed"]["value"]
            assert more["value"] == pytest.approx(expected, abs=2e-4)
    with pytest.raises(MissingResultError):
        steps_memberships.memberships(experiment, replace(bundle, prototypes=None))


def test_trees_over_pages_are_measured_on_the_rows_of_the_bundle(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(default_bundle())
    monkeypatch.setattr(steps_memberships, "SEEDS", (61,))
    monkeypatch.setattr(steps_memberships, "PRODUCTION_SEEDS", (61,))
    found = steps_memberships.production(experiment, bundle)
    names = {"app_only", "embedding_and_memberships", "bag_trees", "oracle", "bag_trees_averaged_with_both"}
    assert set(found["tiles"]["log_loss"]) == set(found["conversions"]["micro_f1"]) == names
    without = steps_memberships.memberships(experiment, bundle)["tiles"]["log_loss"]
    for name in ("app_only", "embedding_and_memberships", "oracle"):
        assert found["tiles"]["log_loss"][name]["value"] == without[name]["value"]
    with pytest.raises(MissingResultError):
        steps_memberships.production(experiment, replace(bundle, prototypes=None))


@pytest.fixture
def scaled(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """At a small scale, with one seed and two amounts; the first has too few sessions for prototypes."""
    amounts = (steps_scaling.Amount(1 / 8), steps_scaling.Amount(2))
    monkeypatch.setattr(steps_scaling, "AMOUNTS", amounts)
    monkeypatch.setattr(steps_scaling, "SEEDS", (61,))
    return replace(experiment, scale=replace(TINY, pretraining_visitors=80))


def test_a_scaling_curve_is_of_more_and_more_people_on_the_rows_of_the_bundle(scaled: Experiment) -> None:
    bundle = load_bundle(default_bundle())
    found = steps_scaling.scaling(scaled, bundle)
    few, more = found["points"]
    assert (few["visitors"], more["visitors"]) == (10, 160)
    assert 0 < few["sessions"] < more["sessions"]
    assert found["bundle"]["sessions"] == bundle.manifest.data["sessions"]["train"]
    names = {"app_only", "embedding", "embedding_and_memberships", "oracle"}
    assert set(few["tiles"]["log_loss"]) == names - {"embedding_and_memberships"}
    assert set(more["tiles"]["log_loss"]) == set(more["conversions"]["micro_f1"]) == names
    for name in ("app_only", "oracle"):
        assert more["tiles"]["log_loss"][name]["value"] == found["bundle"]["tiles"]["log_loss"][name]["value"]
    with pytest.raises(MissingResultError):
        steps_scaling.scaling(scaled, replace(bundle, prototypes=None))


def test_what_an_amount_gains_is_above_the_bundle(scaled: Experiment) -> None:
    found = steps_scaling.scaling(scaled, load_bundle(default_bundle()))
    few, more = found["points"]
    for metric, by_name in more["gained"].items():
        assert set(few["gained"][metric]) == {"embedding"}
        task = "conversions" if metric == "micro_f1" else "tiles"
        for name, gained in by_name.items():
            closed = [each[task][metric][name]["gap_closed"]["value"] for each in (found["bundle"], more)]
            assert gained["value"] == pytest.approx(closed[1] - closed[0], abs=2e-4)


def test_another_seed_of_a_scaling_curve_trains_nothing_again(
    scaled: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(default_bundle())
    before = steps_scaling.scaling(scaled, bundle)
    monkeypatch.setattr(steps_scaling, "SEEDS", (61, 62))
    monkeypatch.setattr(steps_scaling.training_runs, "trained", lambda *_: pytest.fail("trained again"))
    after = steps_scaling.scaling(scaled, bundle)
    assert (before["seeds"], after["seeds"]) == (1, 2)
    assert [p["cpu_seconds"] for p in after["points"]] == [p["cpu_seconds"] for p in before["points"]]


def test_slices_are_of_test_visitors_and_say_which_files_scored_them(experiment: Experiment) -> None:
    bundle = load_bundle(default_bundle())
    found = steps_slices.slices(experiment, bundle)
    tested = sum(
        percent_of(session.visitor_id) >= 75
        for seed in steps_slices.SEEDS
        for session in experiment.data(seed).sessions
    )
    assert found["metrics"]["abstained"]["rows"] == tested
    assert found["metrics"]["label_right"]["rows"] < tested
    assert sum(each["sessions"] for each in found["by_intent"]) == found["metrics"]["label_right"]["rows"]
    assert found["metrics"]["label_right"]["value"] > 0.8
    assert found["bundle"]["encoder.onnx"] == bundle.embedding_space


def test_slices_of_own_sessions_need_no_truth(tmp_path: Path) -> None:
    bundle, rng = load_bundle(default_bundle()), np.random.default_rng(0)
    more = simulate_data(SimulatorConfig(seed=5, visitors=700), cut, tmp_path)
    alone = steps_slices.own_slices(bundle, more.sessions, None, rng)
    assert set(alone["metrics"]) == {"abstained"}
    known = steps_slices.own_slices(bundle, more.sessions, more.outcomes, rng)
    assert {"abstained", "conversion_f1_gain"} <= set(known["metrics"])
    learnt = [each for each in more.sessions if percent_of(each.visitor_id) < 75]
    with pytest.raises(SplitError, match=r"none of \d+ sessions is of a test visitor"):
        steps_slices.own_slices(bundle, learnt, None, rng)
