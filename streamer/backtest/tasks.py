"""Which bundle serves better: the two tasks' metrics per bundle, and their differences, with intervals.

Rules: every bundle's features get the same heads on the same rows; heads see training and validation
visitors, test visitors are scored once. A session counts from its `closed_at` on: a feature that was not
known strictly before its row was decided is an error, not a good result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation import metrics
from models.evaluation.app_only import app_only
from models.evaluation.bootstrap import cluster_numbers, holm, p_value, relative_change, resample
from models.evaluation.features import FeatureTable, Floats, join_tables
from models.evaluation.heads import Settled, fit_label_head, fit_tile_head
from models.evaluation.metrics import Measured
from models.evaluation.protocol import fitting_parts
from models.evaluation.rows import (
    Decisions,
    Outcomes,
    SessionTable,
    conversion_rows,
    session_features,
    tile_rows,
)
from models.evaluation.splits import Split, split_by_visitor
from streamer.backtest.pairs import Sides, sessions_side_by_side

FADING_DAYS = 4.0
"""Tiles are shown days after a session: a second copy of its features fades with this time."""
HISTORY = "history"
"""The floor: only what the visitor did in the app before."""
FEWEST_ROWS = 50
"""Of any split; with fewer nothing could be learnt or told."""

ByContender = dict[str, Measured]


@dataclass(frozen=True)
class Scored:
    """Sessions of visitors with outcomes that every bundle has scored, and what each made of them."""

    sessions: SessionTable
    values: Mapping[str, Floats]
    """`MODEL embedding` and `MODEL intents` -> [S, F]"""


def measure(rows: Path, models: Sequence[str], outcomes: Outcomes, seed: int) -> dict[str, Any]:
    """By task: the metrics of each bundle, and of each after the first its change against the first."""
    scored = _scored(rows, models, {user["linked_visitor_id"] for user in outcomes.users})
    rng = np.random.default_rng(seed)
    return {
        "sessions": len(scored.sessions.visitor_ids),
        "tiles": _tiles(outcomes, scored, models, rng),
        "conversions": _conversions(outcomes, scored, models, rng),
    }


def _scored(path: Path, models: Sequence[str], visitors: set[str]) -> Scored:
    kept: list[Sides] = []
    for sides in sessions_side_by_side(path):
        row = next(iter(sides.values()))
        if row["visitor_id"] in visitors and not row["is_bot"] and sides.keys() >= set(models):
            kept.append(sides)
    firsts = [sides[models[0]] for sides in kept]
    table = SessionTable(
        tuple(row["visitor_id"] for row in firsts),
        np.array([row["started_at"] for row in firsts], dtype=np.int64),
        np.array([row["closed_at"] for row in firsts], dtype=np.int64),
    )
    values: dict[str, Floats] = {}
    for model in models:
        of_model = [sides[model] for sides in kept]
        values[f"{model} embedding"] = np.array([row["embedding"] for row in of_model], dtype=np.float64)
        values[f"{model} intents"] = _intents(of_model)
    return Scored(table, values)


def _intents(rows: Sequence[Mapping[str, Any]]) -> Floats:
    """[S, I + 1]: the probabilities of the best five, and whether the bundle abstained."""
    places: dict[str, int] = {}
    for row in rows:
        for intent in row["intents"]:
            places.setdefault(intent["intent_id"], len(places))
    values = np.zeros((len(rows), len(places) + 1))
    for number, row in enumerate(rows):
        for intent in row["intents"]:
            values[number, places[intent["intent_id"]]] = intent["probability"]
        values[number, -1] = row["abstained"]
    return values


def _tiles(
    outcomes: Outcomes, scored: Scored, models: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    rows = tile_rows(outcomes, scored.sessions)
    split = split_by_visitor(rows.decisions.visitor_ids)
    skipped = _too_few(split)
    if skipped:
        return skipped
    tiles = len(outcomes.tiles())
    floor = app_only(outcomes, rows.decisions)
    found: dict[str, ByContender] = {"log_loss": {}, "macro_recall_at_1": {}}
    settled = Settled()
    for name, features in contenders(floor, scored, rows.decisions, FADING_DAYS).items():
        train, validation = fitting_parts(split, features, rows.shown, rows.clicked)
        head = fit_tile_head(train, validation, tiles, settled)
        if name == HISTORY:
            settled = Settled(features.shape[1], head.penalty)
        shown, clicked = rows.shown[split.test], rows.clicked[split.test]
        logs = head.log_probabilities(features[split.test], shown)
        found["log_loss"][name] = metrics.log_loss(logs, clicked)
        found["macro_recall_at_1"][name] = metrics.macro_recall_at_1(logs, shown, clicked, tiles)
    return _judged(found, rows.decisions, split, models, rng)


def _conversions(
    outcomes: Outcomes, scored: Scored, models: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    rows = conversion_rows(outcomes, scored.sessions)
    split = split_by_visitor(rows.decisions.visitor_ids)
    skipped = _too_few(split) or (
        {} if rows.bought[split.test].any() else _skip("no outcome in the test rows")
    )
    if skipped:
        return skipped
    floor = app_only(outcomes, rows.decisions)
    found: dict[str, ByContender] = {"micro_f1": {}}
    settled = Settled()
    for name, features in contenders(floor, scored, rows.decisions, None).items():
        train, validation = fitting_parts(split, features, rows.bought)
        head = fit_label_head(train, validation, settled)
        if name == HISTORY:
            settled = Settled(features.shape[1], head.penalty)
        given = (head.probabilities(features[split.test]) >= head.threshold).astype(np.float64)
        found["micro_f1"][name] = metrics.micro_f1(given, rows.bought[split.test])
    return _judged(found, rows.decisions, split, models, rng)


def contenders(
    floor: FeatureTable, scored: Scored, decisions: Decisions, fading_days: float | None
) -> dict[str, Floats]:
    """Features by contender: the floor first, then floor and session. Raises LeakError if any of them was
    not known strictly before its row was decided."""
    found = {HISTORY: join_tables([floor], decisions.at)}
    for name, values in scored.values.items():
        table = session_features(name, values, scored.sessions, decisions, fading_days)
        found[name] = join_tables([floor, table], decisions.at)
    return found


def _judged(
    found: Mapping[str, ByContender],
    decisions: Decisions,
    split: Split,
    models: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, Any]:
    clusters = cluster_numbers([decisions.visitor_ids[row] for row in split.test.tolist()])
    flat = {(metric, name): m for metric, by_name in found.items() for name, m in by_name.items()}
    resampled = dict(
        zip(flat, resample({str(k): m for k, m in flat.items()}, clusters, rng).values(), strict=True)
    )
    pairs = {
        (metric, f"{model} {kind}"): (metric, f"{models[0]} {kind}")
        for metric in found
        for model in models[1:]
        for kind in ("embedding", "intents")
    }
    p_values = holm({str(key): p_value(resampled[key], resampled[base]) for key, base in pairs.items()})
    return {
        "rows": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "test_visitors": int(clusters.max()) + 1,
        "metrics": {
            metric: {
                name: {
                    "better": measured.better,
                    **resampled[metric, name].estimate().as_dict(),
                    **_change(pairs, resampled, p_values, (metric, name)),
                }
                for name, measured in by_name.items()
            }
            for metric, by_name in found.items()
        },
    }


def _change(
    pairs: Any, resampled: Any, p_values: Mapping[str, float], key: tuple[str, str]
) -> dict[str, Any]:
    if key not in pairs:
        return {}
    change = relative_change(resampled[key], resampled[pairs[key]]).as_dict()
    return {"against_first": {**change, "p_holm": p_values[str(key)]}}


def _too_few(split: Split) -> dict[str, Any]:
    for name in ("train", "validation", "test"):
        count = len(getattr(split, name))
        if count < FEWEST_ROWS:
            return _skip(f"{count} {name} rows, expected at least {FEWEST_ROWS}")
    return {}


def _skip(why: str) -> dict[str, Any]:
    return {"skipped": why}
