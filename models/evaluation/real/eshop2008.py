"""eshop2008: predicts the next category from the beginning of a session, cut at a fixed random place.

Baselines: the last category again, and a logistic regression or trees over counts of what was seen.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.bootstrap import holm, p_value, relative_change, resample
from streamer.models.evaluation.metrics import Measured
from streamer.models.evaluation.real.clickstreams import click_of, embedded, read, session_of, trained_on
from streamer.models.training.config import TrainConfig
from streamer.models.visitor_splits import TRAIN_BELOW, VALIDATION_BELOW, percent_of
from streamer.schemas.click import Click

PERSISTENCE = "last_category"
OURS = "encoder_and_counts"
MOST_SESSIONS = 12_000
EPOCHS = 4


def evaluate(folder: Path, config: TrainConfig, draws: int, most: int = MOST_SESSIONS) -> dict[str, Any]:
    """Accuracy on test visitors of the first `most` sessions of two clicks or more, by visitor id's hash."""
    by_visitor: dict[str, list[Click]] = defaultdict(list)
    for event in read(folder, "eshop2008.events"):
        by_visitor[event["visitor_id"]].append(click_of(event))
    rows = sorted((v for v, clicks in by_visitor.items() if len(clicks) > 1), key=place_in_order)[:most]
    cuts = [cut_of(v, by_visitor[v]) for v in rows]
    beginnings = [by_visitor[v][:cut] for v, cut in zip(rows, cuts, strict=True)]
    names = sorted({str(c.category) for clicks in by_visitor.values() for c in clicks})
    place = {name: index for index, name in enumerate(names)}
    answer = np.array([place[str(by_visitor[v][cut].category)] for v, cut in zip(rows, cuts, strict=True)])
    percents = np.array([percent_of(v) for v in rows])
    train, test = percents < TRAIN_BELOW, percents >= VALIDATION_BELOW
    whole = [session_of(v, by_visitor[v]) for v, chosen in zip(rows, train.tolist(), strict=True) if chosen]
    encoder, tokenizer = trained_on(whole, config)
    sessions = [session_of(v, clicks) for v, clicks in zip(rows, beginnings, strict=True)]
    vectors = embedded(encoder, tokenizer, sessions, config.threads)
    given = _answers(_counts(beginnings, place), vectors, answer, train)
    last = np.array([place[str(clicks[-1].category)] for clicks in beginnings])
    measured = {PERSISTENCE: _accuracy(last[test], answer[test])}
    measured |= {name: _accuracy(each[test], answer[test]) for name, each in given.items()}
    resampled = resample(measured, np.arange(int(test.sum())), np.random.default_rng(0), draws)
    p = {name: p_value(resampled[OURS], each) for name, each in resampled.items() if name != OURS}
    corrected = holm(p)
    return {
        "rows": {"train": int(train.sum()), "test": int(test.sum())},
        "accuracy": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "ours_versus": {
            name: {
                **relative_change(resampled[OURS], resampled[name]).as_dict(),
                "p_holm": corrected[name],
            }
            for name in p
        },
    }


def cut_of(visitor_id: str, clicks: Sized) -> int:
    """How many of a visitor's clicks, of which there are two or more, are the beginning; the same always."""
    return 1 + place_in_order(visitor_id) % (len(clicks) - 1)


def place_in_order(visitor_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(visitor_id.encode(), digest_size=8, person=b"cut").digest(), "big")


def _counts(beginnings: list[list[Click]], place: dict[str, int]) -> Float64:
    """Counts of categories, the last one, and how many clicks there were."""
    found = np.zeros((len(beginnings), 2 * len(place) + 1))
    for row, clicks in enumerate(beginnings):
        for click in clicks:
            found[row, place[str(click.category)]] += 1.0
        found[row, len(place) + place[str(clicks[-1].category)]] = 1.0
        found[row, -1] = np.log1p(len(clicks))
    found[:, : len(place)] = np.log1p(found[:, : len(place)])
    return found


def _answers(counts: Float64, vectors: Float64, answer: Int64, train: Any) -> dict[str, Int64]:
    """Of all rows, by contender."""
    inputs = {"counts": counts, "encoder": vectors, OURS: np.concatenate([vectors, counts], axis=1)}
    given: dict[str, Int64] = {}
    # One thread: the same sums everywhere.
    with threadpool_limits(1):
        for name, features in inputs.items():
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
            given[name] = model.fit(features[train], answer[train]).predict(features)
        trees = HistGradientBoostingClassifier(
            max_leaf_nodes=8, max_iter=80, learning_rate=0.08, early_stopping=False, random_state=0
        )
        given["trees"] = trees.fit(counts[train], answer[train]).predict(counts)
    return given


def _accuracy(given: Int64, answer: Int64) -> Measured:
    numbers = np.stack([(given == answer).astype(np.float64), np.ones(len(answer))], axis=1)
    return Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "higher")
