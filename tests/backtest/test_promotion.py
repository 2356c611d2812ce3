"""A candidate is promoted only where every bound is kept, and nothing is claimed that can't be told."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.backtest.promotion import MARGIN, MOST_ECE, Judgement, judge, more_unlabelled
from streamer.backtest.report import backtest
from streamer.backtest.tasks import read_outcomes
from streamer.models.bundle import Manifest, default_bundle, read_manifest
from streamer.models.evaluation.bootstrap import Estimate
from tests.backtest.made import a_summary, write
from tests.backtest.test_tasks import a_world

AS_MANY = Estimate(0.0, -0.01, 0.01)
SOUND = read_manifest(default_bundle())[0]


def a_manifest(ece: float = 0.02, guards: bool = True) -> Manifest:
    metrics = deepcopy(SOUND.metrics)
    metrics["distillation"]["ece"] = ece
    metrics["pretraining"]["guards"]["passed"] = guards
    return msgspec.structs.replace(SOUND, metrics=metrics)


def a_document(*changes: tuple[str, float, float], only_a: int = 0) -> dict[str, Any]:
    """A backtest with one metric for each (which is better, low, high)."""
    entry = {"value": 0.5, "low": 0.4, "high": 0.6}
    by_metric = {
        f"metric_{place}": {
            "live embedding": {"better": better, **entry},
            "next embedding": {
                "better": better,
                **entry,
                "against_first": {"value": (low + high) / 2, "low": low, "high": high, "p_holm": 1.0},
            },
        }
        for place, (better, low, high) in enumerate(changes)
    }
    return {
        "contrasts": [{"sessions": {"both": 900, "only_a": only_a, "only_b": 0}}],
        "outcomes": {"tiles": {"metrics": by_metric}, "conversions": {"skipped": "0 train rows"}},
    }


def failed(judgement: Judgement) -> list[str]:
    return [check.name for check in judgement.checks if check.passed is not True]


def test_a_better_bundle_is_promoted_and_a_worse_one_is_not(tmp_path: Path) -> None:
    rows, outcomes = a_world(tmp_path)
    known = read_outcomes(outcomes)
    better = judge(backtest(rows, a_summary("bad", "good"), known), a_manifest(), AS_MANY)
    assert better.verdict == "promote", better
    worse = judge(backtest(rows, a_summary("good", "bad"), known), a_manifest(), AS_MANY)
    assert worse.verdict == "keep"
    assert {name.partition(",")[0] for name in failed(worse)} == {"tiles", "conversions"}


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-0.04, 0.2, "higher", "promote"),
        (-0.06, 0.2, "higher", "undecided"),
        (-0.2, -0.06, "higher", "keep"),
        (-0.2, 0.04, "lower", "promote"),
        (-0.2, 0.06, "lower", "undecided"),
        (0.06, 0.2, "lower", "keep"),
        (float("nan"), float("nan"), "higher", "undecided"),
    ],
)
def test_an_interval_decides_only_on_one_side_of_the_margin(
    low: float, high: float, better: str, verdict: str
) -> None:
    assert judge(a_document((better, low, high)), a_manifest(), AS_MANY).verdict == verdict


@given(
    st.lists(
        st.tuples(st.sampled_from(["lower", "higher"]), st.floats(-1, 1), st.floats(0, 1)),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_promoted_loses_no_more_than_the_margin_anywhere(
    drawn: list[tuple[str, float, float]],
) -> None:
    changes = [(better, low, low + width) for better, low, width in drawn]
    loss = max(high if better == "lower" else -low for better, low, high in changes)
    judgement = judge(a_document(*changes), a_manifest(), AS_MANY)
    assert (judgement.verdict == "promote") == (loss <= MARGIN)


def test_without_outcomes_nobody_can_tell() -> None:
    judgement = judge(a_document() | {"outcomes": None}, a_manifest(), AS_MANY)
    assert (judgement.verdict, failed(judgement)) == ("undecided", ["outcomes"])
    document = a_document()
    document["outcomes"]["tiles"] = {"skipped": "3 test rows, expected at least 50"}
    judgement = judge(document, a_manifest(), AS_MANY)
    assert judgement.verdict == "undecided"
    assert "3 test rows" in judgement.checks[-1].found


@pytest.mark.parametrize(
    ("manifest", "unlabelled", "only_a", "what"),
    [
        (a_manifest(ece=MOST_ECE + 0.001), AS_MANY, 0, "calibration error of labels"),
        (a_manifest(guards=False), AS_MANY, 0, "pretraining's guards against collapse"),
        (a_manifest(), Estimate(0.1, 0.06, 0.14), 0, "more sessions without a label"),
        (a_manifest(), AS_MANY, 1, "sessions that only the live bundle can score"),
    ],
)
def test_each_bound_alone_keeps_the_live_bundle(
    manifest: Manifest, unlabelled: Estimate, only_a: int, what: str
) -> None:
    judgement = judge(a_document(("higher", 0.1, 0.2), only_a=only_a), manifest, unlabelled)
    assert (judgement.verdict, failed(judgement)) == ("keep", [what])


def test_labels_are_compared_on_visitors_that_neither_bundle_learnt_from(tmp_path: Path) -> None:
    rows, _ = a_world(tmp_path)
    table = pq.read_table(rows).to_pylist()
    for place, row in enumerate(table):
        row["abstained"] = row["model_version"] == "good" and place % 10 == 0
    more = more_unlabelled(write(rows, table), ["bad", "good"], np.random.default_rng(0))
    assert more is not None
    assert 0.08 < more.value < 0.35
    assert more.low < more.value < more.high
    few = write(rows, table[:400])
    assert more_unlabelled(few, ["bad", "good"], np.random.default_rng(0)) is None
