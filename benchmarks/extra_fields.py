"""What a recipe's fields add on eshop2008: price, colour, photography and page of the list, as extra fields.

    python -m benchmarks.extra_fields DATA [--sessions 8000] [--epochs 4] [--seeds 2] [--causal 1]

Will a visitor look at an article on sale who hasn't yet? Encoders are pretrained on the training visitors'
whole sessions; a logistic regression on the embedding of beginnings learns from all their labels; test
visitors have no part in either. `tail`: product ids seldom enough not to be learnt, with 32 or 1,024 buckets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamer.models.evaluation.real.clickstreams import click_of, embedded, read, session_of, trained_on
from streamer.models.evaluation.real.eshop2008 import cut_of, place_in_order
from streamer.models.extra_fields import FieldSpec
from streamer.models.training.config import TrainConfig
from streamer.models.visitor_splits import TRAIN_BELOW, VALIDATION_BELOW, percent_of
from streamer.schemas.click import Click, Session

_SALE = "sale"
_SHOWN = ("colour_code", "model_photography", "site_page")
_FIELDS = (
    FieldSpec("price", "number", buckets=16),
    *(FieldSpec(f"properties.{name}", "categorical", 32) for name in _SHOWN),
)
_RARE = 400
"""Products with fewer clicks aren't learnt: most of the shop's 217."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "own fields": {},
    "extra fields": {"fields": _FIELDS},
    "few products learnt": {"min_count": _RARE},
    "few products learnt, tail of 1,024": {"min_count": _RARE, "hashed": {"product_id": 1024}},
}
GAINS = (("extra fields", "own fields"), ("few products learnt, tail of 1,024", "few products learnt"))
_DRAWS = 1000


def visitors(folder: Path, most: int) -> dict[str, list[Click]]:
    """Clicks of visitors with two or more who haven't looked at a sale before the cut."""
    context = {row["event_id"]: row for row in read(folder, "eshop2008.context")}
    found: dict[str, list[Click]] = {}
    for event in read(folder, "eshop2008.events"):
        more = context[event["event_id"]]
        extras = {f"properties.{name}": str(more[name]) for name in _SHOWN}
        found.setdefault(event["visitor_id"], []).append(replace(click_of(event), extras=extras))
    chosen = sorted((v for v, clicks in found.items() if len(clicks) > 1), key=place_in_order)
    open_ones = [v for v in chosen if all(c.category != _SALE for c in found[v][: cut_of(v, found[v])])]
    return {visitor: found[visitor] for visitor in open_ones[:most]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sessions", type=int, default=8_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--causal", type=float, default=0.0, help="weight of the causal objective")
    parser.add_argument("--recipes", nargs="+", default=[*RECIPES], choices=[*RECIPES])
    options = parser.parse_args()
    rows = visitors(options.data, options.sessions)
    percents = np.array([percent_of(visitor) for visitor in rows])
    train, test = percents < TRAIN_BELOW, percents >= VALIDATION_BELOW
    labels = np.array(
        [any(c.category == _SALE for c in clicks[cut_of(v, clicks) :]) for v, clicks in rows.items()]
    )
    beginnings = [session_of(v, clicks[: cut_of(v, clicks)]) for v, clicks in rows.items()]
    whole = [
        session_of(v, clicks) for (v, clicks), is_train in zip(rows.items(), train, strict=True) if is_train
    ]
    scores: dict[str, np.ndarray] = {}
    common = {"epochs": options.epochs, "weight_causal": options.causal}
    for name in options.recipes:
        of_seeds = [
            _scored(whole, beginnings, labels, train, TrainConfig(seed=seed, **common, **RECIPES[name]))
            for seed in range(options.seeds)
        ]
        scores[name] = np.stack(of_seeds)[:, test]
        auc = np.mean([roc_auc_score(labels[test], each) for each in scores[name]])
        print(json.dumps({"recipe": name, "auc": round(float(auc), 4)}), flush=True)
    for one, other in GAINS:
        if {one, other} <= scores.keys():
            found = _gain(scores[one], scores[other], labels[test])
            print(json.dumps({"gain of": one, "over": other, **found}))


def _scored(
    whole: Sequence[Session],
    beginnings: Sequence[Session],
    labels: np.ndarray,
    train: np.ndarray,
    config: TrainConfig,
) -> np.ndarray:
    """[N]: log odds of all rows."""
    vectors = embedded(*trained_on(whole, config), beginnings, config.threads)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    odds: np.ndarray = head.fit(vectors[train], labels[train]).decision_function(vectors)
    return odds


def _gain(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Of AUC, with a 95 % interval over test visitors and seeds."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(_DRAWS):
        rows, seed = rng.integers(0, len(labels), len(labels)), rng.integers(0, len(ours))
        a, b = (roc_auc_score(labels[rows], each[seed][rows]) for each in (ours, theirs))
        found.append(a - b)
    low, high = np.quantile(found, (0.025, 0.975))
    return {"auc": round(float(np.mean(found)), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


if __name__ == "__main__":
    main()
