"""Which bundle serves better: the two tasks' metrics per bundle, and their differences, with intervals.

Rules: every bundle's features get the same heads on the same rows; heads see training and validation
visitors, test visitors are scored once. A session counts from its `closed_at` on: a feature that was not
known strictly before its row was decided is an error, not a good result.

Outcomes are JSON lines, plain or packed, of two kinds that may be mixed:

- `{"visitor_id": "v", "time": 1700000000000, "outcome": "mortgage"}`: something the visitor did.
- `{"visitor_id": "v", "time": ..., "tiles": ["a", "b"], "clicked": "b"}`: what was shown, and the one
  clicked, or null.

With `user_id` in place of `visitor_id` it is a customer's, and their record at that time is joined.
`time` is ms UTC or RFC 3339. Every line shows as many tiles as every other.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.backtest.contrast import COLUMNS, Sides, sessions_side_by_side
from streamer.errors import UsageError
from streamer.line_file import lines_of
from streamer.models.arrays import Float64
from streamer.models.evaluation import metrics
from streamer.models.evaluation.bootstrap import cluster_numbers, holm, p_value, relative_change, resample
from streamer.models.evaluation.features import NEVER, FeatureTable, join_tables
from streamer.models.evaluation.heads import FixedPenalty, best_threshold, fit_label_head, fit_tile_head
from streamer.models.evaluation.metrics import Measured
from streamer.models.evaluation.protocol import fitting_parts
from streamer.models.evaluation.splits import Split, split_by_visitor, too_few_rows
from streamer.models.evaluation.task_rows import (
    ClosedSessions,
    Decisions,
    Outcomes,
    app_only,
    conversion_rows,
    session_features,
    tile_rows,
)
from streamer.parquet_rows import opened
from streamer.replay.options import users_beside
from streamer.replay.rows import ROW_GROUP, require_columns

FADING_DAYS = 4.0
"""Tiles are shown days after a session: a second copy of its features fades with this time."""
HISTORY = "history"
"""The floor: only what the visitor did in the app before."""

_CUSTOMER = "\0"
"""Begins the id under which a customer stands among visitors: no visitor's does."""
_NOTHING = {"started_at": NEVER, "closed_at": NEVER, "embedding": [], "intents": [], "abstained": False}
"""What stands for the latest session of a customer of whom nothing is left."""

ByContender = dict[str, Measured]


@dataclass(frozen=True)
class ScoredSessions:
    """Sessions of visitors with outcomes that every bundle has scored, and what each made of them."""

    sessions: ClosedSessions
    values: Mapping[str, Float64]
    """`MODEL embedding` and `MODEL intents` -> [S, F]"""


def measure(rows: Path, models: Sequence[str], outcomes: Outcomes, seed: int) -> dict[str, Any]:
    """By task: the metrics of each bundle, and of each after the first its change against the first.

    Raises UsageError if outcomes of customers have no records to be joined with.
    """
    scored = _scored(rows, models, {user["linked_visitor_id"] for user in outcomes.users})
    rng = np.random.default_rng(seed)
    return {
        "sessions": len(scored.sessions.visitor_ids),
        "tiles": _tiles(outcomes, scored, models, rng),
        "conversions": _conversions(outcomes, scored, models, rng),
    }


def _scored(path: Path, models: Sequence[str], wanted: set[str]) -> ScoredSessions:
    """`wanted`: visitors, and customers as `customer` has them."""
    kept: list[Sides] = []
    for sides in sessions_side_by_side(path):
        row = next(iter(sides.values()))
        if row["visitor_id"] in wanted and not row["is_bot"] and sides.keys() >= set(models):
            kept.append(sides)
    if any(each.startswith(_CUSTOMER) for each in wanted):
        kept += _customers(path, models, wanted)
    firsts = [sides[models[0]] for sides in kept]
    table = ClosedSessions(
        tuple(row["visitor_id"] for row in firsts),
        np.array([row["started_at"] for row in firsts], dtype=np.int64),
        np.array([row["closed_at"] for row in firsts], dtype=np.int64),
        np.array([row.get("as_of", row["closed_at"]) for row in firsts], dtype=np.int64),
    )
    values: dict[str, Float64] = {}
    for model in models:
        of_model = [sides[model] for sides in kept]
        values[f"{model} embedding"] = _embeddings(of_model)
        values[f"{model} intents"] = _intents(of_model)
    return ScoredSessions(table, values)


def _customers(path: Path, models: Sequence[str], wanted: set[str]) -> list[Sides]:
    """Customers' records as sessions of theirs, each from its time on. A record whose latest session is that
    of the one before is left out. Raises UsageError if there are no records."""
    beside = users_beside(path)
    by_moment: defaultdict[tuple[str, int], Sides] = defaultdict(dict)
    with opened(beside) as file:
        columns = ["as_of", "user_id", *COLUMNS]
        require_columns(beside, file, columns)
        for batch in file.iter_batches(ROW_GROUP, columns=columns):
            for row in batch.to_pylist():
                key = customer(row["user_id"])
                if key in wanted:
                    left = row if row["session_id"] is not None else row | _NOTHING
                    by_moment[key, row["as_of"]][row["model_version"]] = left | {"visitor_id": key}
    kept: list[Sides] = []
    latest: dict[str, str | None] = {}
    for (key, _), sides in sorted(by_moment.items(), key=lambda item: item[0]):
        if not sides.keys() >= set(models):
            continue
        session_id = sides[models[0]]["session_id"]
        if session_id != latest.get(key):
            latest[key] = session_id
            kept.append(sides)
    return kept


def _embeddings(rows: Sequence[Mapping[str, Any]]) -> Float64:
    """[S, F]; zeros where there is no session."""
    width = max((len(row["embedding"]) for row in rows), default=0)
    return np.array([row["embedding"] or [0.0] * width for row in rows], dtype=np.float64)


def _intents(rows: Sequence[Mapping[str, Any]]) -> Float64:
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
    outcomes: Outcomes, scored: ScoredSessions, models: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    rows = tile_rows(outcomes, scored.sessions)
    split = split_by_visitor(rows.decisions.visitor_ids)
    few = too_few_rows(split)
    if few:
        return _skip(few)
    tiles = len(outcomes.tiles())
    floor = app_only(outcomes, rows.decisions)
    found: dict[str, ByContender] = {"log_loss": {}, "macro_recall_at_1": {}}
    settled = FixedPenalty()
    for name, features in contenders(floor, scored, rows.decisions, FADING_DAYS).items():
        train, validation = fitting_parts(split, features, rows.shown, rows.clicked)
        head = fit_tile_head(train, validation, tiles, settled)
        if name == HISTORY:
            settled = FixedPenalty(features.shape[1], head.penalty)
        shown, clicked = rows.shown[split.test], rows.clicked[split.test]
        logs = head.log_probabilities(features[split.test], shown)
        found["log_loss"][name] = metrics.log_loss(logs, clicked)
        found["macro_recall_at_1"][name] = metrics.macro_recall_at_1(logs, shown, clicked, tiles)
    return _judged(found, rows.decisions, split, models, rng)


def _conversions(
    outcomes: Outcomes, scored: ScoredSessions, models: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    rows = conversion_rows(outcomes, scored.sessions)
    split = split_by_visitor(rows.decisions.visitor_ids)
    few = too_few_rows(split) or (None if rows.bought[split.test].any() else "no outcome in the test rows")
    if few:
        return _skip(few)
    floor = app_only(outcomes, rows.decisions)
    found: dict[str, ByContender] = {"micro_f1": {}}
    settled = FixedPenalty()
    for name, features in contenders(floor, scored, rows.decisions, None).items():
        train, validation = fitting_parts(split, features, rows.bought)
        head = fit_label_head(train, validation, settled)
        if name == HISTORY:
            settled = FixedPenalty(features.shape[1], head.penalty)
        threshold = best_threshold(head.probabilities(validation[0]), validation[1])
        given = (head.probabilities(features[split.test]) >= threshold).astype(np.float64)
        found["micro_f1"][name] = metrics.micro_f1(given, rows.bought[split.test])
    return _judged(found, rows.decisions, split, models, rng)


def contenders(
    floor: FeatureTable, scored: ScoredSessions, decisions: Decisions, fading_days: float | None
) -> dict[str, Float64]:
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


def _skip(why: str) -> dict[str, Any]:
    return {"skipped": why}


class OutcomeLine(msgspec.Struct):
    """A line of a file of outcomes, of either kind."""

    time: int | dt.datetime
    visitor_id: str | None = None
    user_id: str | None = None
    outcome: str | None = None
    tiles: list[str] | None = None
    clicked: str | None = None

    @property
    def at_ms(self) -> int:
        time = self.time
        return time if isinstance(time, int) else round(time.timestamp() * 1000)

    @property
    def whose(self) -> str:
        return self.visitor_id if self.visitor_id is not None else customer(str(self.user_id))

    @property
    def is_sound(self) -> bool:
        if (self.visitor_id is None) == (self.user_id is None):
            return False
        if self.tiles is None:
            return bool(self.outcome)
        return self.outcome is None and (self.clicked is None or self.clicked in self.tiles)


def read_outcomes(path: Path) -> Outcomes:
    """Raises UsageError that names the line; what stands in it isn't repeated."""
    impressions: list[dict[str, Any]] = []
    conversions: list[dict[str, Any]] = []
    visitors: dict[str, None] = {}
    for number, line in outcome_lines(path):
        visitors[line.whose] = None
        row = {"user_id": line.whose, "time": line.at_ms}
        if line.tiles is None:
            conversions.append(row | {"product": line.outcome})
            continue
        impressions.append(row | {"tiles": line.tiles, "clicked": line.clicked})
        if len(line.tiles) != len(impressions[0]["tiles"]):
            raise UsageError(
                f"{path}, line {number}: {len(line.tiles)} tiles, the first such line has"
                f" {len(impressions[0]['tiles'])}; expected the same number in each"
            )
    return Outcomes([_user(visitor) for visitor in visitors], impressions, conversions)


def outcome_lines(path: Path) -> Iterator[tuple[int, OutcomeLine]]:
    """By their numbers from 1 on. Raises UsageError that names the line; what stands in it isn't repeated."""
    for number, raw in lines_of(path, "outcomes as JSON lines"):
        yield number, _parsed(path, number, raw)


def customer(user_id: str) -> str:
    """The id under which a customer stands among visitors."""
    return f"{_CUSTOMER}{user_id}"


def _user(visitor_id: str) -> dict[str, Any]:
    """Nothing is known of a visitor but what happened."""
    unknown = {"age": 0, "tenure_months": 0, "device": "", "holdings": []}
    return {"user_id": visitor_id, "linked_visitor_id": visitor_id, **unknown}


def _parsed(path: Path, number: int, raw: bytes) -> OutcomeLine:
    try:
        line = msgspec.json.decode(raw, type=OutcomeLine)
    except (msgspec.DecodeError, UnicodeDecodeError):
        line = None
    if line is None or not line.is_sound:
        raise UsageError(
            f"{path}, line {number}: expected visitor_id or user_id, time, and either outcome or tiles with"
            " clicked, one of them or null"
        )
    return line
