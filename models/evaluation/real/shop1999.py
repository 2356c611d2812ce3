"""shop1999: predicts from the first six events of a session whether the visitor will pay.

Sessions that have paid within those events are left out. The encoder is pretrained on whole sessions
of training and validation visitors; of a test visitor it sees the first six events.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.evaluation.bootstrap import Resampled, p_value
from streamer.models.evaluation.metrics import auroc
from streamer.models.evaluation.real.clickstreams import click_of, embedded, read, session_of, trained_on
from streamer.models.training.config import TrainConfig
from streamer.models.visitor_splits import VALIDATION_BELOW, percent_of
from streamer.schemas.click import Click

FIRST = 6
PAID = "pay_res"
OURS = "encoder_and_trees"
EPOCHS = 60
"""Over 900 sessions, about as many steps as two epochs of the bank's."""
MIN_COUNT = 3
_PENALTY, _LEAVES, _STEPS, _RATE, _MIN_LEAF = 0.01, 4, 80, 0.06, 15
"""Chosen once, by a cross-validation that this code doesn't repeat: `real_shop1999` tunes every contender on
the rows that it learns from."""


def evaluate(folder: Path, config: TrainConfig, draws: int) -> dict[str, Any]:
    """AUC on test visitors; `config` has EPOCHS and MIN_COUNT or what a test can afford."""
    by_visitor: dict[str, list[Click]] = defaultdict(list)
    for event in read(folder, "shop1999.events"):
        by_visitor[event["visitor_id"]].append(click_of(event))
    rows = [
        (visitor_id, clicks)
        for visitor_id, clicks in by_visitor.items()
        if len(clicks) >= FIRST and not any(click.page_type == PAID for click in clicks[:FIRST])
    ]
    paid = np.array([any(click.page_type == PAID for click in clicks) for _, clicks in rows])
    learnt = np.array([percent_of(visitor_id) < VALIDATION_BELOW for visitor_id, _ in rows])
    whole = [session_of(v, clicks) for v, clicks in by_visitor.items() if percent_of(v) < VALIDATION_BELOW]
    encoder, tokenizer = trained_on(whole, config)
    vectors = embedded(
        encoder, tokenizer, [session_of(v, clicks[:FIRST]) for v, clicks in rows], config.threads
    )
    scores = _scores([clicks[:FIRST] for _, clicks in rows], vectors, paid, learnt)
    resampled = _resampled(scores, paid[~learnt], np.random.default_rng(0), draws)
    return {
        "rows": {"learnt": int(learnt.sum()), "test": int((~learnt).sum())},
        "paid_share": float(paid.mean()),
        "auc": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "chosen_on_validation": OURS,
        "ours_versus": {
            name: {
                "difference": resampled[OURS].value - each.value,
                "p": p_value(resampled[OURS], each),
            }
            for name, each in resampled.items()
            if name != OURS
        },
    }


def _scores(beginnings: list[list[Click]], vectors: Float64, paid: Bool, learnt: Bool) -> dict[str, Float64]:
    """Of the test rows, by contender."""
    counts, last, times = _described(beginnings)
    everything = np.concatenate([vectors, counts, last, times], axis=1)
    linear = {"logistic": counts, "encoder": vectors}
    trees = {
        "trees": counts,
        "trees_and_times": np.concatenate([counts, last, times], axis=1),
        OURS: everything,
    }
    found: dict[str, Float64] = {}
    # One thread: the same trees everywhere.
    with threadpool_limits(1):
        for name, features in linear.items():
            model = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=1_000))
            found[name] = model.fit(features[learnt], paid[learnt]).predict_proba(features[~learnt])[:, 1]
        for name, features in trees.items():
            model = HistGradientBoostingClassifier(
                learning_rate=_RATE,
                max_iter=_STEPS,
                max_leaf_nodes=_LEAVES,
                min_samples_leaf=_MIN_LEAF,
                early_stopping=False,
                random_state=0,
            )
            found[name] = model.fit(features[learnt], paid[learnt]).predict_proba(features[~learnt])[:, 1]
    return found


def _described(beginnings: list[list[Click]]) -> tuple[Float64, Float64, Float64]:
    """Counts of pages, the last two pages, the logs of the times between clicks and in all."""
    pages = sorted({str(click.page_type) for clicks in beginnings for click in clicks})
    at = {page: place for place, page in enumerate(pages)}
    ids: Int64 = np.array([[at[str(click.page_type)] for click in clicks] for clicks in beginnings])
    one_hot = np.eye(len(pages))[ids]
    last = np.concatenate([one_hot[:, -1], one_hot[:, -2]], axis=1)
    stamps = np.array([[click.timestamp for click in clicks] for clicks in beginnings], dtype=np.float64)
    gaps = np.diff(stamps, axis=1) / 1_000.0
    hours = stamps[:, :1] // 3_600_000 % 24
    times = np.concatenate([np.log1p(gaps), np.log1p(gaps.sum(axis=1, keepdims=True)), hours], axis=1)
    return one_hot.sum(axis=1), last, times


def _resampled(
    scores: dict[str, Float64], positive: Bool, rng: np.random.Generator, draws: int
) -> dict[str, Resampled]:
    """AUC under draws of visitors, the same for all; one row a visitor."""
    weights = rng.multinomial(len(positive), np.full(len(positive), 1 / len(positive)), size=draws)
    yes, no = weights[:, positive].astype(np.float64), weights[:, ~positive].astype(np.float64)
    found = {}
    for name, score in scores.items():
        apart = score[positive][:, None] - score[~positive][None, :]
        wins = (apart > 0) + 0.5 * (apart == 0)
        pairs = np.maximum(yes.sum(axis=1) * no.sum(axis=1), 1.0)
        found[name] = Resampled(auroc(score, positive), ((yes @ wins) * no).sum(axis=1) / pairs)
    return found
