"""The steps of an evaluation on a tiny simulated world: they run, go on where they were, see no outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from models.evaluation import steps_knobs
from models.evaluation.bootstrap import resample
from models.evaluation.laboratory import Laboratory, Scale
from models.evaluation.ledger import Ledger
from models.evaluation.protocol import measure_conversions, resample_rows
from models.evaluation.rows import ConversionRows
from models.evaluation.splits import percent_of, split_by_visitor, split_forward
from models.evaluation.steps_baselines import few_labels
from models.evaluation.steps_knobs import time_forward
from models.evaluation.steps_main import main_table, session_features, student_table
from models.evaluation.summary import figures
from models.evaluation.trained import Parts, without
from models.evaluation.world import World
from models.tokenizer import Tokenizer
from models.training.corpus import Corpus
from schemas.click import Session
from streamer.core.rules import SessionRules
from streamer.replay.file_source import sessions_of_file

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
def lab(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    folder = tmp_path_factory.mktemp("evaluation")
    return Laboratory(Ledger(folder / "results", folder / "cache"), cut, TINY)


@pytest.fixture(scope="module")
def world(lab: Laboratory) -> World:
    return lab.world(11)


def test_main_and_student_give_every_figure_with_its_interval(lab: Laboratory) -> None:
    found = figures({"main": main_table(lab), "student": student_table(lab)})
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


def test_a_second_run_computes_nothing(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    first = main_table(lab)
    again = Laboratory(lab.ledger, lambda _: pytest.fail("cut again"), TINY)
    assert main_table(again) == first


def test_another_scale_is_another_result(lab: Laboratory) -> None:
    other = Laboratory(lab.ledger, lab.cut, replace(TINY, labelled=200))
    assert other.of_features(11) != lab.of_features(11)


def test_features_of_sessions_are_those_of_all_contenders(lab: Laboratory, world: World) -> None:
    features = session_features(lab, 11)
    assert {len(values) for values in features.values()} == {len(world.sessions)}
    assert features["both"].shape[1] == 64 + len(world.names)
    assert np.array_equal(features["teacher"], features["teacher_85%"])


def test_by_time_nothing_decided_in_the_test_stretch_is_learnt_from(world: World) -> None:
    rows = world.conversions.decisions
    wait = 14 * 86_400_000
    split = split_forward(rows.at, rows.visitor_ids, wait)
    assert (rows.at[split.train] + wait).max() < rows.at[split.test].min()
    trained, validated = (
        {rows.visitor_ids[row] for row in part.tolist()} for part in (split.train, split.validation)
    )
    assert not trained & validated


def test_the_split_by_time_runs(lab: Laboratory) -> None:
    found = time_forward(lab)
    assert found["pretraining_sessions"] < len(lab.world(11).sessions)
    assert "embedding" in found["tiles"]["metrics"]["log_loss"]


def test_transfer_tests_each_kind_of_visitor_with_heads_of_each(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_knobs, "SHIFTS", (0.3,))
    rows = steps_knobs.transfer(lab)["rows"]
    kinds = ("logged_in", "never_login")
    assert {(row["fitted_on"], row["tested_on"]) for row in rows} == {(a, b) for a in kinds for b in kinds}
    monkeypatch.setattr(steps_knobs, "SHIFTS", (0.3, 0.9))
    known = replace(lab, ledger=replace(lab.ledger, known_only=True))
    assert steps_knobs.transfer(known)["rows"] == rows


def test_with_permuted_outcomes_even_the_oracle_gains_nothing(world: World) -> None:
    rng = np.random.default_rng(0)
    rows = world.conversions
    permuted = ConversionRows(rows.decisions, rows.bought[rng.permutation(len(rows.bought))])
    split = split_by_visitor(rows.decisions.visitor_ids)
    oracle = {"oracle": [world.conversion_features("oracle", world.oracle)]}
    found = measure_conversions(permuted, world.conversion_floor, oracle, split)
    draws = resample_rows(found, rows.decisions, split, rng, 300)
    gain = draws["micro_f1/oracle"].draws - draws["micro_f1/app_only"].draws
    assert np.quantile(gain, 0.025) < 0.0


def test_few_labels_are_as_many_as_said_of_whole_visitors_and_the_test_rows_stay(world: World) -> None:
    rows = world.conversions.decisions
    first, second = few_labels(world, 100, 0), few_labels(world, 100, 1)
    assert len(first.train) + len(first.validation) == 100
    assert np.array_equal(first.test, second.test)
    assert not np.array_equal(first.train, second.train)
    assert all(percent_of(rows.visitor_ids[row]) < 60 for row in first.train.tolist())
    assert all(60 <= percent_of(rows.visitor_ids[row]) < 75 for row in first.validation.tolist())


def test_parts_hold_every_session_once(world: World) -> None:
    parts = Parts.of(world.sessions)
    assert (parts.train.astype(int) + parts.validation + parts.test == 1).all()


def test_a_hidden_modality_is_in_no_token(world: World) -> None:
    tokenizer = Tokenizer.fit(world.sessions)
    corpus = without(Corpus.of(world.sessions, tokenizer), ("path_1", "dwell", "query", "device"))
    shown = Corpus.of(world.sessions, tokenizer)
    for blank, bucket in zip(corpus.buckets, shown.buckets, strict=True):
        assert blank.tokens.event_ids[:, :, 1].max() == 0 < bucket.tokens.event_ids[:, :, 1].max()
        assert blank.tokens.dwell_z.abs().max() == 0 < bucket.tokens.dwell_z.abs().max()
        assert blank.tokens.query_slot.max() == 0
        assert blank.tokens.session_ids[:, 0].max() == 0
        assert blank.tokens.event_ids[:, :, 0].equal(bucket.tokens.event_ids[:, :, 0])


def test_draws_of_nobody_with_an_outcome_leave_an_interval_of_the_others() -> None:
    from models.evaluation.metrics import micro_f1

    given = np.array([[1.0], [0.0]])
    found = resample({"f1": micro_f1(given, given)}, np.array([0, 1]), np.random.default_rng(0), 200)
    assert found["f1"].estimate().high == 1.0
