"""trivago: which of the hotels shown is clicked out to, tested on the second half of the time.

A row knows the clicks of its session before the click-out and nothing after; popularity counts the
click-outs of earlier moments, never its own. Baselines: popularity (ties count half), the order shown, and
the hotel touched last followed by the order shown. Ours: boosted trees over what is known of each hotel,
with and without what the encoder, pretrained on the first half, adds. N rows, K places shown at most, F
features.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.evaluation.bootstrap import cluster_numbers, p_value, relative_change, resample
from streamer.models.evaluation.metrics import Measured
from streamer.models.evaluation.real.clickstreams import (
    Event,
    click_of,
    embedded,
    read,
    session_of,
    trained_on,
)
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.encoder import Encoder
from streamer.models.visitor_splits import VALIDATION_BELOW, percent_of
from streamer.schemas.click import Click

SHOWN = 25
CLICKED_OUT = "clickout item"
_INTERACTIONS = (
    "interaction item image",
    "interaction item info",
    "interaction item rating",
    "interaction item deals",
    CLICKED_OUT,
    "search for item",
)
_FAR = 30.0
"""Stands for "never" where a distance in clicks or places is a feature."""
FEATURES = (
    "place",
    "places_shown",
    "price",
    "price_to_mean",
    "price_rank",
    "is_last",
    "clicks_since",
    "seconds_since",
    *_INTERACTIONS,
    "order_of_first",
    "places_after_last",
    "kinds_touched",
    "popularity",
    "shown_rate",
    "clicks_before",
    "clickouts_before",
    "sorted_by_price",
)

BASELINE = "last_then_order"
TREES, WITH_ENCODER = "trees", "trees_and_encoder"
COSINES = 2
"""Of the encoder's features come first: how near a hotel is to the session, and to the hotel touched last."""
COMPONENTS = 12
"""Principal components of the session's embedding among the trees' features."""
_LEAVES = (8, 15)
_STEPS, _RATE = 150, 0.06


_Step = tuple[int, Click]
"""With its number within the session."""


@dataclass(frozen=True)
class Ranking:
    """N click-outs in order of time."""

    visitor_ids: tuple[str, ...]
    at: Int64
    shown: tuple[tuple[str, ...], ...]
    clicked: Int64
    """[N]: its place among those shown; -1 where it wasn't shown"""
    before: tuple[tuple[Click, ...], ...]
    """[N]: the clicks of the session before"""
    earlier: tuple[tuple[Click, ...], ...]
    """[N]: those of the visitor's other sessions, before"""
    features: Float64
    """[N, K, F]; 0 where there is no hotel"""

    @property
    def exists(self) -> Bool:
        """[N, K]"""
        counts = np.array([len(shown) for shown in self.shown])
        exists: Bool = np.arange(SHOWN) < counts[:, None]
        return exists


def load(folder: Path) -> Ranking:
    sessions, of_visitor = _clicks_by_session(folder)
    rows = sorted(read(folder, "trivago.ranking"), key=lambda row: (row["timestamp"], row["event_id"]))
    clicked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    uncounted: list[Event] = []
    before, earlier, features = [], [], np.zeros((len(rows), SHOWN, len(FEATURES)))
    for number, row in enumerate(rows):
        if uncounted and uncounted[0]["timestamp"] < row["timestamp"]:
            clicked.update(each["clicked_item"] for each in uncounted)
            for each in uncounted:
                seen.update(each["impressions"])
            uncounted = []
        uncounted.append(row)
        step = _step(row["event_id"])
        known = tuple(click for at, click in sessions[row["source_session_id"]] if at < step)
        before.append(known)
        others = of_visitor[row["visitor_id"]] - {row["source_session_id"]}
        earlier.append(_clicks_until(row["timestamp"], [sessions[other] for other in others]))
        candidates = _candidates(row["impressions"], row["prices"], known, row["timestamp"], clicked, seen)
        features[number, : len(candidates)] = candidates
    return Ranking(
        visitor_ids=tuple(row["visitor_id"] for row in rows),
        at=np.array([row["timestamp"] for row in rows], dtype=np.int64),
        shown=tuple(tuple(row["impressions"][:SHOWN]) for row in rows),
        clicked=np.array([_place(row["clicked_item"], row["impressions"]) for row in rows], dtype=np.int64),
        before=tuple(before),
        earlier=tuple(earlier),
        features=features,
    )


def second_half_begins(at: Int64) -> int:
    return int(np.sort(at)[len(at) // 2])


def _clicks_by_session(folder: Path) -> tuple[dict[str, list[_Step]], dict[str, set[str]]]:
    """In order of the source's steps; and the sessions of each visitor."""
    found: dict[str, list[_Step]] = defaultdict(list)
    of_visitor: dict[str, set[str]] = defaultdict(set)
    for event in read(folder, "trivago.events"):
        session = event["event_id"].removeprefix("trv-").split("-")[0]
        found[session].append((_step(event["event_id"]), click_of(event)))
        of_visitor[event["visitor_id"]].add(session)
    for clicks in found.values():
        clicks.sort(key=lambda each: each[0])
    return found, of_visitor


def _clicks_until(at: int, sessions: Sequence[Sequence[_Step]]) -> tuple[Click, ...]:
    """Those strictly before, in order of time."""
    known = [(click.timestamp, step, click) for each in sessions for step, click in each]
    known.sort(key=lambda each: (each[0], each[2].event_id.split("-")[1], each[1]))
    return tuple(click for timestamp, _, click in known if timestamp < at)


def _step(event_id: str) -> int:
    """Of `trv-<session>-<step>` and, where the source repeats a step, `trv-<session>-<step>-<n>`."""
    return int(event_id.split("-")[2])


def _place(item: str, shown: Sequence[str]) -> int:
    return shown.index(item) if item in shown[:SHOWN] else -1


def _candidates(
    shown: Sequence[str],
    prices: Sequence[float],
    before: Sequence[Click],
    at: int,
    clicked: Counter[str],
    seen: Counter[str],
) -> Float64:
    """[places shown, F], in the order of FEATURES."""
    shown, price = shown[:SHOWN], np.array(prices[:SHOWN])
    touched = [(number, click) for number, click in enumerate(before) if click.product_id in set(shown)]
    last = touched[-1][1].product_id if touched else None
    last_place = shown.index(last) if last is not None else None
    first_seen = {item: place for place, item in enumerate(dict.fromkeys(c.product_id for _, c in touched))}
    by_item: dict[str, list[tuple[int, Click]]] = defaultdict(list)
    for number, click in touched:
        by_item[str(click.product_id)].append((number, click))
    ranks = price.argsort(kind="stable").argsort(kind="stable")
    sorted_by_price = float(any(c.element and "rice" in c.element for c in before))
    clickouts = float(sum(c.element == CLICKED_OUT for c in before))
    rows = []
    for place, item in enumerate(shown):
        own = by_item.get(item, [])
        kinds = Counter(click.element for _, click in own)
        rows.append(
            [
                float(place),
                float(len(shown)),
                float(np.log1p(price[place])),
                float(price[place] / max(1.0, price.mean())),
                float(ranks[place]),
                float(item == last),
                float(len(before) - own[-1][0]) if own else _FAR,
                float(np.log1p(max(0, at - own[-1][1].timestamp) / 1000)) if own else _FAR,
                *(float(kinds[kind]) for kind in _INTERACTIONS),
                float(first_seen.get(item, _FAR)),
                float(place - last_place) if last_place is not None else _FAR,
                float(len(first_seen)),
                float(np.log1p(clicked[item])),
                (clicked[item] + 0.5) / (seen[item] + 10.0),
                float(np.log1p(len(before))),
                clickouts,
                sorted_by_price,
            ]
        )
    return np.array(rows)


def evaluate(folder: Path, config: TrainConfig, draws: int) -> dict[str, Any]:
    """MRR on the second half; heads learn from the first, and choose on a quarter of its visitors."""
    ranking = load(folder)
    first, train, validation, test = parts_of(ranking)
    percents = np.array([percent_of(visitor_id) for visitor_id in ranking.visitor_ids])
    scores, leaves = _scores(ranking, encoded(ranking, first, config), train, validation)
    chosen = max((TREES, WITH_ENCODER), key=lambda name: leaves[name]["validation_mrr"])
    clusters = cluster_numbers([ranking.visitor_ids[row] for row in test.tolist()])
    measured = {name: mrr(score[test], ranking, test) for name, score in scores.items()}
    resampled = resample(measured, clusters, np.random.default_rng(0), draws)
    of_test_visitors = test[percents[test] >= VALIDATION_BELOW]
    return {
        "rows": {"train": len(train), "validation": len(validation), "test": len(test)},
        "mrr": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "chosen_on_validation": chosen,
        "settings": leaves,
        "chosen_versus": {
            name: {
                **relative_change(resampled[chosen], resampled[name]).as_dict(),
                "p": p_value(resampled[chosen], resampled[name]),
            }
            for name in scores
            if name != chosen
        },
        "mrr_of_unseen_visitors": {
            name: mrr(score[of_test_visitors], ranking, of_test_visitors).value()
            for name, score in scores.items()
        },
    }


def parts_of(ranking: Ranking) -> tuple[Bool, Int64, Int64, Int64]:
    """Which rows [N] are of the first half of the time; rows that train, validate and test."""
    first: Bool = ranking.at < second_half_begins(ranking.at)
    percents = np.array([percent_of(visitor_id) for visitor_id in ranking.visitor_ids])
    shown_one = ranking.clicked >= 0
    train = np.flatnonzero(first & shown_one & (percents < VALIDATION_BELOW))
    validation = np.flatnonzero(first & shown_one & (percents >= VALIDATION_BELOW))
    return first, train, validation, np.flatnonzero(~first)


def mrr(scores: Float64, ranking: Ranking, rows: Int64) -> Measured:
    """Mean of 1 / rank by scores [N, K] of what was clicked; 0 where it wasn't shown."""
    numbers = np.stack([reciprocal_ranks(scores, ranking, rows), np.ones(len(rows))], axis=1)
    return Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "higher")


def reciprocal_ranks(scores: Float64, ranking: Ranking, rows: Int64) -> Float64:
    scores = np.where(ranking.exists[rows], scores, -np.inf)
    clicked = ranking.clicked[rows]
    own = scores[np.arange(len(rows)), np.maximum(clicked, 0)]
    # Ties count as if half of them came before.
    rank = 1.0 + (scores > own[:, None]).sum(axis=1) + ((scores == own[:, None]).sum(axis=1) - 1) / 2.0
    found: Float64 = (clicked >= 0) / rank
    return found


def _scores(
    ranking: Ranking, encoded: Float64, train: Int64, validation: Int64
) -> tuple[dict[str, Float64], dict[str, Any]]:
    """[N, K] each; and what was chosen on validation."""
    place = ranking.features[:, :, FEATURES.index("place")]
    last = ranking.features[:, :, FEATURES.index("is_last")]
    popularity = ranking.features[:, :, FEATURES.index("popularity")]
    scores = {"popularity": popularity, "order_shown": -place, BASELINE: last * SHOWN - place}
    settings: dict[str, Any] = {}
    inputs = {
        TREES: ranking.features,
        WITH_ENCODER: np.concatenate([ranking.features, encoded], axis=2),
    }
    for name, features in inputs.items():
        quality, leaves, scores[name] = chosen_trees(ranking, features, train, validation)
        settings[name] = {"leaves": leaves, "validation_mrr": quality}
    return scores, settings


def chosen_trees(
    ranking: Ranking, features: Float64, train: Int64, validation: Int64
) -> tuple[float, int, Float64]:
    """MRR on validation, leaves, and scores [N, K] of the number of leaves that is best there."""
    tried = []
    for leaves in _LEAVES:
        found = _trees(ranking, features, train, leaves)
        tried.append((mrr(found[validation], ranking, validation).value(), leaves, found))
    return max(tried, key=lambda each: each[0])


def _trees(ranking: Ranking, features: Float64, train: Int64, leaves: int) -> Float64:
    exists = ranking.exists
    hit = np.arange(SHOWN) == ranking.clicked[:, None]
    trees = HistGradientBoostingClassifier(
        max_leaf_nodes=leaves,
        max_iter=_STEPS,
        learning_rate=_RATE,
        min_samples_leaf=40,
        early_stopping=False,
        random_state=0,
    )
    scores = np.full(exists.shape, -1.0)
    # One thread: the same trees everywhere.
    with threadpool_limits(1):
        trees.fit(features[train][exists[train]], hit[train][exists[train]])
        scores[exists] = trees.predict_proba(features[exists])[:, 1]
    return scores


def encoded(ranking: Ranking, first: Bool, config: TrainConfig) -> Float64:
    """[N, K, COSINES + COMPONENTS]: how near each hotel is to the session and to the hotel touched last, and
    the session's main components. The encoder learns from what preceded the first half's click-outs.
    """
    known = [
        session_of(visitor_id, clicks)
        for visitor_id, clicks, early in zip(ranking.visitor_ids, ranking.before, first.tolist(), strict=True)
        if clicks and early
    ]
    longest = {session.session_id: session for session in known}
    encoder, tokenizer = trained_on(list(longest.values()), config)
    rows = np.flatnonzero([len(clicks) > 0 for clicks in ranking.before])
    sessions = [session_of(ranking.visitor_ids[row], ranking.before[row]) for row in rows.tolist()]
    embedding = np.zeros((len(ranking.at), encoder.shape.embedding_dim))
    embedding[rows] = embedded(encoder, tokenizer, sessions, config.threads)
    own, last = _hotels(ranking, encoder, tokenizer)
    most = min(COMPONENTS, embedding.shape[1])
    components = PCA(most, random_state=0).fit(embedding[first]).transform(embedding)
    return np.concatenate(
        [
            np.einsum("nd,nkd->nk", _unit(embedding), own)[:, :, None],
            np.einsum("nd,nkd->nk", last, own)[:, :, None],
            np.repeat(components[:, None, :], SHOWN, axis=1),
        ],
        axis=2,
    )


def _hotels(ranking: Ranking, encoder: Encoder, tokenizer: Tokenizer) -> tuple[Float64, Float64]:
    """[N, K, D] of the hotels shown and [N, D] of the one touched last, of length 1."""
    table = encoder.events.of_field(LEARNT_FIELDS.index("product_id")).detach().numpy().astype(np.float64)
    id_of = tokenizer.vocabularies["product_id"].id_of
    shown = np.zeros((len(ranking.shown), SHOWN), dtype=np.int64)
    for row, items in enumerate(ranking.shown):
        shown[row, : len(items)] = [id_of(item) for item in items]
    last = [
        next((id_of(click.product_id) for click in reversed(clicks) if click.product_id), 0)
        for clicks in ranking.before
    ]
    return _unit(table[shown]), _unit(table[last])


def _unit(vectors: Float64) -> Float64:
    lengths: Float64 = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Float64 = vectors / np.maximum(lengths, 1e-9)
    return unit
