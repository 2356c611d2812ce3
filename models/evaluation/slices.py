"""Is a model worse on some sessions than on the others? By device, hour, referrer, length, login, visit.

A slice is compared with all other sessions of the same dimension, on the same draws of visitors. Holm's
correction covers every slice of every metric, so that of many slices none looks bad by chance alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamer.models.arrays import Bool, Int64
from streamer.models.bundle import Bundle
from streamer.models.evaluation.bootstrap import (
    Resampled,
    cluster_numbers,
    holm,
    interval,
    p_value,
    pooled,
    resample,
)
from streamer.models.evaluation.metrics import Measured
from streamer.models.fields import device_and_referrer
from streamer.schemas.click import Session

Direction = Literal["higher", "lower", "zero"]
"""What is better: more, less, or nearer to 0."""
Dimensions = Mapping[str, Sequence[str]]
"""Of each dimension the slice of every session, [S]."""

FEWEST_VISITORS = 30
"""In a slice and among the others; with fewer, nothing is said of it."""
DRAWS_TIMES = 5
"""p is at least 2 / (draws + 1), which Holm's correction multiplies by the number of tests."""
SIGNIFICANT = 0.05
NOT_SHOWN = "no difference shown"
"""The verdict on a slice whose gap may be chance."""
OTHER, NONE = "other", "none"
_MOST_NAMES = 8
_HOURS = ("00 to 05", "06 to 11", "12 to 17", "18 to 23")
_LENGTHS = ((1, "1 click"), (4, "2 to 4"), (8, "5 to 8"), (16, "9 to 16"), (64, "17 to 64"))
_LONGEST = "65 or more"
_HOUR_MS, _DAY_HOURS = 3_600_000, 24


@dataclass(frozen=True)
class SliceMetric:
    """A metric with the session and the visitor of each of its B rows."""

    measured: Measured
    session: Int64
    """[B]: place among the sessions that have dimensions."""
    visitor_ids: Sequence[str]
    """[B]"""
    better: Direction


@dataclass(frozen=True)
class SliceDraws:
    """Metrics on resampled visitors of one data set, and what each rests on; by `METRIC|all`, and by
    `METRIC|DIMENSION|SLICE|in` and `...|rest`."""

    resampled: dict[str, Resampled]
    rows: dict[str, int]
    visitors: dict[str, int]
    better: dict[str, Direction]


def scoring_files(bundle: Bundle) -> dict[str, str]:
    """What a session's results depend on. Not the model's version: that changes with whatever is written into
    its manifest."""
    names = ("tokenizer.json", "encoder.onnx", "classifier.onnx", "calibration.json", "taxonomy.json")
    return {name: bundle.manifest.files[name][:12] for name in names}


def dimensions_of(sessions: Sequence[Session]) -> dict[str, list[str]]:
    """What a session shows by itself, and whether it is its visitor's first among these."""
    named = [device_and_referrer(session) for session in sessions]
    return {
        "device": _commonest([device for device, _ in named]),
        "hour (UTC)": [_HOURS[s.started_at // _HOUR_MS % _DAY_HOURS // 6] for s in sessions],
        "referrer": _commonest([referrer for _, referrer in named]),
        "clicks": [_length(session.event_count) for session in sessions],
        "login": ["not logged in" if s.user_id is None else "logged in" for s in sessions],
        "visit": _visits(sessions),
    }


def measure_slices(
    metrics: Mapping[str, SliceMetric], dimensions: Dimensions, rng: np.random.Generator, draws: int
) -> SliceDraws:
    """Every metric over all rows, on each slice and on the rest of its dimension."""
    found = SliceDraws({}, {}, {}, {name: metric.better for name, metric in metrics.items()})
    for name, metric in metrics.items():
        clusters = cluster_numbers(metric.visitor_ids)
        masks = {f"{name}|all": np.ones(len(clusters), dtype=np.bool_)}
        for dimension, values in dimensions.items():
            of_rows = np.array(values)[metric.session]
            for value in sorted(set(of_rows.tolist())):
                masks[f"{name}|{dimension}|{value}|in"] = of_rows == value
                masks[f"{name}|{dimension}|{value}|rest"] = of_rows != value
        for key, mask in masks.items():
            found.rows[key] = int(mask.sum())
            found.visitors[key] = len(set(clusters[mask].tolist()))
        parts = {key: _part(metric.measured, mask) for key, mask in masks.items()}
        batches = [resample(parts, clusters, rng, draws) for _ in range(DRAWS_TIMES)]
        found.resampled.update({key: _joined([batch[key] for batch in batches]) for key in parts})
    return found


def slice_table(by_seed: Sequence[SliceDraws], rng: np.random.Generator) -> dict[str, Any]:
    """`metrics`: each over all rows. `cells`: a metric on a slice, with its gap to the rest and p.
    `too_few`: slices of too few visitors to say anything."""
    means = pooled([seed.resampled for seed in by_seed], rng)
    rows, visitors = (_summed([getattr(seed, name) for seed in by_seed]) for name in ("rows", "visitors"))
    better = by_seed[0].better
    keys = dict.fromkeys(key for seed in by_seed for key in seed.rows if key.endswith("|in"))
    cells: list[dict[str, Any]] = []
    too_few: list[dict[str, Any]] = []
    p_values: dict[str, float] = {}
    for key in (each.removesuffix("|in") for each in keys):
        metric, dimension, value = key.split("|", 2)
        cell: dict[str, Any] = {"metric": metric, "dimension": dimension, "slice": value}
        cell |= {"rows": rows[f"{key}|in"], "visitors": visitors[f"{key}|in"]}
        if _fewest_visitors(key, by_seed) < FEWEST_VISITORS:
            too_few.append(cell)
            continue
        inside, rest = means[f"{key}|in"], means[f"{key}|rest"]
        # The two slices of such a dimension have one and the same test.
        of_two = sum(each.startswith(f"{metric}|{dimension}|") for each in keys) == 2
        cell["test"] = f"{metric}|{dimension}" if of_two else key
        p_values[cell["test"]] = p_value(inside, rest)
        gap = interval(inside.value - rest.value, inside.draws - rest.draws)
        cells.append(cell | {**inside.estimate().as_dict(), "rest": rest.value, "gap": gap.as_dict()})
    corrected = holm(p_values)
    for cell in cells:
        cell["p_holm"] = corrected[cell.pop("test")]
        cell["verdict"] = _verdict(cell, better[cell["metric"]])
    overall = {
        name: {
            "better": direction,
            **means[f"{name}|all"].estimate().as_dict(),
            "rows": rows[f"{name}|all"],
            "visitors": visitors[f"{name}|all"],
        }
        for name, direction in better.items()
        if f"{name}|all" in means
    }
    return {"metrics": overall, "tests": len(p_values), "cells": cells, "too_few": too_few}


def _fewest_visitors(key: str, by_seed: Sequence[SliceDraws]) -> int:
    return min(seed.visitors.get(f"{key}|{side}", 0) for seed in by_seed for side in ("in", "rest"))


def _verdict(cell: Mapping[str, Any], better: Direction) -> str:
    if cell["p_holm"] >= SIGNIFICANT:
        return NOT_SHOWN
    if better == "zero":
        return "worse" if abs(cell["value"]) > abs(cell["rest"]) else "better"
    return "worse" if (cell["gap"]["value"] < 0) == (better == "higher") else "better"


def _part(measured: Measured, mask: Bool) -> Measured:
    return Measured(measured.numbers * mask[:, None], measured.formula, measured.better)


def _joined(batches: Sequence[Resampled]) -> Resampled:
    return Resampled(batches[0].value, np.concatenate([each.draws for each in batches]))


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in counts:
        for key, count in each.items():
            found[key] = found.get(key, 0) + count
    return found


def _commonest(values: Sequence[str | None]) -> list[str]:
    """The commonest names as they are, the others as one: a rare one may point at a person."""
    named = [value for value in values if value is not None]
    names, counts = np.unique(np.array(named, dtype=np.str_), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_NAMES]
    kept = {str(names[i]) for i in order.tolist() if counts[i] >= FEWEST_VISITORS}
    return [NONE if value is None else value if value in kept else OTHER for value in values]


def _length(clicks: int) -> str:
    return next((name for most, name in _LENGTHS if clicks <= most), _LONGEST)


def _visits(sessions: Sequence[Session]) -> list[str]:
    seen: set[str] = set()
    found = [""] * len(sessions)
    for place in sorted(range(len(sessions)), key=lambda i: (sessions[i].started_at, i)):
        visitor_id = sessions[place].visitor_id
        found[place] = "returning" if visitor_id in seen else "new"
        seen.add(visitor_id)
    return found
