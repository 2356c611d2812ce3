"""What is measured on slices: a bundle's verdicts on S sessions, and what its embedding is worth to the app.

Labels count where the bundle gives one. Rows of outcomes are those of visitors who are tested on; their heads
learn from training visitors, and what is measured is the gain over the app's own features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.bundle import Bundle
from streamer.models.evaluation.metrics import Measured, share_of
from streamer.models.evaluation.protocol import FLOOR, measure_conversions, measure_tiles
from streamer.models.evaluation.simulated_data import FADING_DAYS
from streamer.models.evaluation.slices import Direction, SliceMetric
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
from streamer.models.scorer import Scored, Scorer
from streamer.schemas.click import Session

BETTER: dict[str, Direction] = {
    "label_right": "higher",
    "overconfidence": "zero",
    "abstained": "lower",
    "tile_log_loss_gain": "higher",
    "conversion_f1_gain": "higher",
}
_EMBEDDING = "embedding"
_AT_ONCE = 4096


class UnscoredError(ValueError):
    """Sessions that the bundle can't score."""


class Verdicts:
    """What a bundle says of sessions."""

    def __init__(self, bundle: Bundle, sessions: Sequence[Session]) -> None:
        """Raises UnscoredError."""
        scorer, scored = Scorer(bundle), []
        for at in range(0, len(sessions), _AT_ONCE):
            found = scorer.score(sessions[at : at + _AT_ONCE])
            scored += [each for each in found if isinstance(each, Scored)]
        unscored = len(sessions) - len(scored)
        if unscored:
            raise UnscoredError(f"{bundle.model_version} can't score {unscored} of {len(sessions)} sessions")
        place = {intent.id: index for index, intent in enumerate(bundle.taxonomy.intents)}
        self.embedding: Float64 = np.array([each.embedding for each in scored], dtype=np.float64)
        """[S, D]"""
        self.best: Int64 = np.array([place[each.intents[0].intent_id] for each in scored], dtype=np.int64)
        """[S]: the likeliest label, also where it abstains."""
        self.claimed: Float64 = np.array([each.intents[0].probability for each in scored])
        """[S]: the probability of that label."""
        self.abstained: Bool = np.array([each.abstained for each in scored], dtype=np.bool_)
        """[S]"""


def abstentions(verdicts: Verdicts, sessions: Sequence[Session], tested: Bool) -> dict[str, SliceMetric]:
    """`tested` [S]."""
    rows = np.flatnonzero(tested)
    abstained = verdicts.abstained[rows].astype(np.float64)
    return _metric("abstained", share_of(_beside_ones(abstained)), rows, sessions)


def label_metrics(
    verdicts: Verdicts, right: Bool, sessions: Sequence[Session], tested: Bool
) -> dict[str, SliceMetric]:
    """Of the sessions that get a label; `right` [S]: whether it is."""
    rows = np.flatnonzero(tested & ~verdicts.abstained)
    hits = right[rows].astype(np.float64)
    over = Measured(_beside_ones(verdicts.claimed[rows] - hits), _mean, "lower")
    return {
        **_metric("label_right", share_of(_beside_ones(hits)), rows, sessions),
        **_metric("overconfidence", over, rows, sessions),
    }


def outcome_metrics(verdicts: Verdicts, outcomes: Outcomes, table: ClosedSessions) -> dict[str, SliceMetric]:
    """Those for which there are outcomes enough."""
    found = {
        "tile_log_loss_gain": _tile_gain(verdicts.embedding, outcomes, table),
        "conversion_f1_gain": _conversion_gain(verdicts.embedding, outcomes, table),
    }
    return {name: metric for name, metric in found.items() if metric is not None}


def _tile_gain(embedding: Float64, outcomes: Outcomes, table: ClosedSessions) -> SliceMetric | None:
    """In nats."""
    rows = tile_rows(outcomes, table)
    split = split_by_visitor(rows.decisions.visitor_ids)
    if too_few_rows(split):
        return None
    features = session_features(_EMBEDDING, embedding, table, rows.decisions, FADING_DAYS)
    floor = app_only(outcomes, rows.decisions)
    found = measure_tiles(rows, len(outcomes.tiles()), floor, {_EMBEDDING: [features]}, split)["log_loss"]
    gain = found[FLOOR].numbers[:, 0] - found[_EMBEDDING].numbers[:, 0]
    return _of_decisions(
        "tile_log_loss_gain", Measured(_beside_ones(gain), _mean, "higher"), rows.decisions, split
    )


def _conversion_gain(embedding: Float64, outcomes: Outcomes, table: ClosedSessions) -> SliceMetric | None:
    rows = conversion_rows(outcomes, table)
    split = split_by_visitor(rows.decisions.visitor_ids)
    if too_few_rows(split) or not rows.bought[split.test].any():
        return None
    features = session_features(_EMBEDDING, embedding, table, rows.decisions)
    floor = app_only(outcomes, rows.decisions)
    found = measure_conversions(rows, floor, {_EMBEDDING: [features]}, split)["micro_f1"]
    with_it, without = found[_EMBEDDING], found[FLOOR]
    width = with_it.numbers.shape[1]

    def gained(sums: Float64) -> Float64:
        return with_it.formula(sums[..., :width]) - without.formula(sums[..., width:])

    both = Measured(np.concatenate([with_it.numbers, without.numbers], axis=1), gained, "higher")
    return _of_decisions("conversion_f1_gain", both, rows.decisions, split)


def _metric(
    name: str, measured: Measured, rows: Int64, sessions: Sequence[Session]
) -> dict[str, SliceMetric]:
    visitor_ids = [sessions[row].visitor_id for row in rows.tolist()]
    return {name: SliceMetric(measured, rows, visitor_ids, BETTER[name])}


def _of_decisions(name: str, measured: Measured, decisions: Decisions, split: Split) -> SliceMetric:
    visitor_ids = [decisions.visitor_ids[row] for row in split.test.tolist()]
    return SliceMetric(measured, decisions.session[split.test], visitor_ids, BETTER[name])


def _beside_ones(values: Float64) -> Float64:
    return np.stack([values, np.ones_like(values)], axis=1)


def _mean(sums: Float64) -> Float64:
    mean: Float64 = sums[..., 0] / np.maximum(sums[..., 1], 1.0)
    return mean
