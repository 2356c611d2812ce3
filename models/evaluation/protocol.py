"""The protocol of both tasks: contenders differ in their features alone, everything else is the same.

Every contender has the app's own features and adds its session features to them. Heads see training
and validation rows; test rows are scored once, after all choices. Features are checked for leaks before
anything is fitted. `app_only` is the floor; `oracle`, if given, knows the session's first latent intent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation import metrics
from streamer.models.evaluation.boosted import Bought, Clicked, boosted_scores
from streamer.models.evaluation.bootstrap import (
    DRAWS,
    Resampled,
    cluster_numbers,
    gap_closed,
    holm,
    p_value,
    relative_change,
    resample,
)
from streamer.models.evaluation.features import FeatureTable, join_tables
from streamer.models.evaluation.heads import (
    NONE_FIXED,
    FixedPenalty,
    best_threshold,
    fit_label_head,
    fit_tile_head,
    of_shown,
)
from streamer.models.evaluation.metrics import Measured
from streamer.models.evaluation.splits import Split
from streamer.models.evaluation.task_rows import ConversionRows, Decisions, TileRows

FLOOR, ORACLE = "app_only", "oracle"

Contenders = Mapping[str, Sequence[FeatureTable]]
"""The feature tables that each contender adds to the floor, rows as in the task."""
Report = dict[str, Any]
ByMetric = dict[str, dict[str, Measured]]


class SplitError(ValueError):
    """A split with no rows to learn from or to test on."""


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""That one of two averaged contenders may have of the logits."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Which contenders have no linear head of their own."""

    boosted: Collection[str] = ()
    """These have trees, which begin at the floor's scores and see all features unscaled."""
    averaged: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Means of the logits of two others, in the shares that are best on validation rows."""


ALL_LINEAR = Kinds()


def measure_tiles(
    rows: TileRows,
    tiles: int,
    floor: FeatureTable,
    contenders: Contenders,
    split: Split,
    kinds: Kinds = ALL_LINEAR,
) -> ByMetric:
    """Log loss and macro Recall@1 of the floor and of every contender on the test rows."""
    _check(split)
    outcome = Clicked(rows.shown, rows.clicked)
    logs: dict[str, Float64] = {}
    fixed, start = NONE_FIXED, np.zeros(0)
    for name, tables in _with_floor(contenders).items():
        features = join_tables([floor, *tables], rows.decisions.at)
        if name in kinds.boosted:
            logs[name] = of_shown(boosted_scores(features, start, outcome, split), rows.shown)
            continue
        train, validation = fitting_parts(split, features, rows.shown, rows.clicked)
        head = fit_tile_head(train, validation, tiles, fixed)
        if name == FLOOR:
            fixed = FixedPenalty(features.shape[1], head.penalty)
            start = head.scores(features, rows.shown)
        logs[name] = head.log_probabilities(features, rows.shown)

    def loss(found: Float64) -> float:
        return metrics.log_loss(found[split.validation], rows.clicked[split.validation]).value()

    for name, pair in kinds.averaged.items():
        logs[name] = _averaged(logs, pair, lambda mean: log_softmax(mean, axis=1), loss)
    shown, clicked = rows.shown[split.test], rows.clicked[split.test]
    tested = {name: each[split.test] for name, each in logs.items()}
    return {
        "log_loss": {name: metrics.log_loss(each, clicked) for name, each in tested.items()},
        "macro_recall_at_1": {
            name: metrics.macro_recall_at_1(each, shown, clicked, tiles) for name, each in tested.items()
        },
    }


def measure_conversions(
    rows: ConversionRows,
    floor: FeatureTable,
    contenders: Contenders,
    split: Split,
    kinds: Kinds = ALL_LINEAR,
) -> ByMetric:
    """Micro F1 over all products of the floor and of every contender on the test rows."""
    _check(split)
    outcome = Bought(rows.bought)
    logits: dict[str, Float64] = {}
    fixed = NONE_FIXED
    for name, tables in _with_floor(contenders).items():
        features = join_tables([floor, *tables], rows.decisions.at)
        if name in kinds.boosted:
            logits[name] = boosted_scores(features, logits[FLOOR], outcome, split)
            continue
        train, validation = fitting_parts(split, features, rows.bought)
        head = fit_label_head(train, validation, fixed)
        if name == FLOOR:
            fixed = FixedPenalty(features.shape[1], head.penalty)
        logits[name] = head.scores(features)
    known = outcome.of(split.validation)
    for name, pair in kinds.averaged.items():
        logits[name] = _averaged(
            logits, pair, lambda mean: mean, lambda found: known.loss(found[split.validation])
        )
    found = {}
    for name, each in logits.items():
        chances = expit(each)
        threshold = best_threshold(chances[split.validation], known.labels)
        given = (chances[split.test] >= threshold).astype(np.float64)
        found[name] = metrics.micro_f1(given, rows.bought[split.test])
    return {"micro_f1": found}


def _averaged(
    logits: Mapping[str, Float64],
    pair: tuple[str, str],
    normalized: Callable[[Float64], Float64],
    loss: Callable[[Float64], float],
) -> Float64:
    """The mean of two contenders' logits, weighted as `loss` on validation rows says."""
    one, other = (logits[name] for name in pair)
    means = [normalized((1.0 - share) * one + share * other) for share in SHARES]
    return min(means, key=loss)


def fitting_parts(split: Split, *arrays: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The training rows and the validation rows of each array; all that a head gets to see."""
    return tuple(array[split.train] for array in arrays), tuple(array[split.validation] for array in arrays)


def _with_floor(contenders: Contenders) -> Contenders:
    """The floor comes first."""
    if FLOOR in contenders:
        raise ValueError(
            f"contenders {sorted(contenders)}: {FLOOR} is the floor itself, expected another name"
        )
    return {FLOOR: (), **contenders}


def _check(split: Split) -> None:
    for name in ("train", "validation", "test"):
        if not len(getattr(split, name)):
            raise SplitError(f"split: no {name} rows, expected at least one: more visitors or a longer time")


def resample_rows(
    found: ByMetric, decisions: Decisions, split: Split, rng: np.random.Generator, draws: int = DRAWS
) -> dict[str, Resampled]:
    """Every metric of every contender by "metric/contender", all on the same draws of visitors."""
    flat = {f"{metric}/{name}": m for metric, by_name in found.items() for name, m in by_name.items()}
    return resample(flat, _clusters(decisions, split), rng, draws)


def report_of(resampled: Mapping[str, Resampled], decisions: Decisions, split: Split) -> Report:
    return {
        "rows": {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        "test_visitors": int(_clusters(decisions, split).max()) + 1,
        "metrics": compared(resampled),
    }


def compared(resampled: Mapping[str, Resampled]) -> Report:
    """Values with intervals; against the floor with Holm's correction; share of the way to the oracle."""
    corrected = holm(
        {
            key: p_value(resampled[key], resampled[f"{key.split('/')[0]}/{FLOOR}"])
            for key in resampled
            if not key.endswith(f"/{FLOOR}")
        }
    )
    by_metric: Report = {}
    for key in resampled:
        metric, name = key.split("/")
        by_metric.setdefault(metric, {})[name] = _entry(metric, name, resampled, corrected)
    return by_metric


def _clusters(decisions: Decisions, split: Split) -> Int64:
    return cluster_numbers([decisions.visitor_ids[row] for row in split.test.tolist()])


def _entry(
    metric: str, name: str, resampled: Mapping[str, Resampled], corrected: Mapping[str, float]
) -> Report:
    key = f"{metric}/{name}"
    contender, floor = resampled[key], resampled[f"{metric}/{FLOOR}"]
    entry: Report = contender.estimate().as_dict()
    if name == FLOOR:
        return entry
    entry["vs_app_only"] = {**relative_change(contender, floor).as_dict(), "p_holm": corrected[key]}
    oracle = resampled.get(f"{metric}/{ORACLE}")
    if oracle is not None and name != ORACLE:
        entry["gap_closed"] = gap_closed(contender, floor, oracle).as_dict()
    return entry
