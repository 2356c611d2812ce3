"""The protocol of both tasks: contenders differ in their features alone, everything else is the same.

Every contender has the app's own features and adds its session features to them. Heads see training
and validation rows; test rows are scored once, after all choices. Features are checked for leaks before
anything is fitted. `app_only` is the floor; `oracle`, if given, knows the session's first latent intent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from streamer.models.arrays import Int64
from streamer.models.evaluation import metrics
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
    BoostedHead,
    FixedPenalty,
    LabelHead,
    fit_boosted_head,
    fit_label_head,
    fit_tile_head,
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


def measure_tiles(
    rows: TileRows, tiles: int, floor: FeatureTable, contenders: Contenders, split: Split
) -> ByMetric:
    """Log loss and macro Recall@1 of the floor and of every contender on the test rows."""
    _check(split)
    found: ByMetric = {"log_loss": {}, "macro_recall_at_1": {}}
    shown, clicked = rows.shown[split.test], rows.clicked[split.test]
    fixed = NONE_FIXED
    for name, tables in _with_floor(contenders).items():
        features = join_tables([floor, *tables], rows.decisions.at)
        train, validation = fitting_parts(split, features, rows.shown, rows.clicked)
        head = fit_tile_head(train, validation, tiles, fixed)
        if name == FLOOR:
            fixed = FixedPenalty(features.shape[1], head.penalty)
        logs = head.log_probabilities(features[split.test], shown)
        found["log_loss"][name] = metrics.log_loss(logs, clicked)
        found["macro_recall_at_1"][name] = metrics.macro_recall_at_1(logs, shown, clicked, tiles)
    return found


def measure_conversions(
    rows: ConversionRows,
    floor: FeatureTable,
    contenders: Contenders,
    split: Split,
    boosted: Collection[str] = (),
    seed: int = 0,
) -> ByMetric:
    """Micro F1 over all products of the floor and of every contender on the test rows.

    The contenders named in `boosted` have trees for a head, which see all features unscaled.
    """
    _check(split)
    found: ByMetric = {"micro_f1": {}}
    fixed = NONE_FIXED
    for name, tables in _with_floor(contenders).items():
        features = join_tables([floor, *tables], rows.decisions.at)
        train, validation = fitting_parts(split, features, rows.bought)
        head: LabelHead | BoostedHead
        if name in boosted:
            head = fit_boosted_head(train, validation, seed)
        else:
            head = fit_label_head(train, validation, fixed)
        if name == FLOOR and isinstance(head, LabelHead):
            fixed = FixedPenalty(features.shape[1], head.penalty)
        given = (head.probabilities(features[split.test]) >= head.threshold).astype(np.float64)
        found["micro_f1"][name] = metrics.micro_f1(given, rows.bought[split.test])
    return found


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
