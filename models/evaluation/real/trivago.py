"""trivago: ranking of the hotels shown, tested on the second half of the time.

Baselines: popularity (ties count half), the order shown, the hotel touched last and then the order shown.
Ours: boosted trees over what is known of each hotel, with and without what the encoder, pretrained on the
first half, adds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.evaluation.bootstrap import cluster_numbers, p_value, relative_change, resample
from models.evaluation.features import Floats
from models.evaluation.metrics import Measured
from models.evaluation.real.candidates import FEATURES, SHOWN, Ranking, load, second_half_begins
from models.evaluation.real.clickstreams import embedded, session_of, trained_on
from models.evaluation.splits import VALIDATION_BELOW, Ints, percent_of
from models.fields import LEARNT_FIELDS
from models.tokenizer import Tokenizer
from models.training.config import TrainConfig
from models.training.encoder import Encoder

BASELINE = "last_then_order"
TREES, WITH_ENCODER = "trees", "trees_and_encoder"
COMPONENTS = 12
"""Of the session's embedding that trees get to see."""
_LEAVES = (8, 15)
_STEPS, _RATE = 150, 0.06


def evaluate(folder: Path, config: TrainConfig, draws: int) -> dict[str, Any]:
    """MRR on the second half; heads learn from the first, and choose on a quarter of its visitors."""
    ranking = load(folder)
    first = ranking.at < second_half_begins(ranking.at)
    percents = np.array([percent_of(visitor_id) for visitor_id in ranking.visitor_ids])
    shown_one = ranking.clicked >= 0
    train = np.flatnonzero(first & shown_one & (percents < VALIDATION_BELOW))
    validation = np.flatnonzero(first & shown_one & (percents >= VALIDATION_BELOW))
    test = np.flatnonzero(~first)
    scores, leaves = _scores(ranking, _encoded(ranking, first, config), train, validation)
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


def mrr(scores: Floats, ranking: Ranking, rows: Ints) -> Measured:
    """Mean of 1 / rank by scores [N, K] of what was clicked; 0 where it wasn't shown."""
    scores = np.where(ranking.exists[rows], scores, -np.inf)
    clicked = ranking.clicked[rows]
    own = scores[np.arange(len(rows)), np.maximum(clicked, 0)]
    # Ties count as if half of them came before.
    rank = 1.0 + (scores > own[:, None]).sum(axis=1) + ((scores == own[:, None]).sum(axis=1) - 1) / 2.0
    numbers = np.stack([(clicked >= 0) / rank, np.ones(len(rows))], axis=1)
    return Measured(numbers, lambda sums: sums[..., 0] / sums[..., 1], "higher")


def _scores(
    ranking: Ranking, encoded: Floats, train: Ints, validation: Ints
) -> tuple[dict[str, Floats], dict[str, Any]]:
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
        tried = []
        for leaves in _LEAVES:
            found = _trees(ranking, features, train, leaves)
            tried.append((mrr(found[validation], ranking, validation).value(), leaves, found))
        quality, leaves, scores[name] = max(tried, key=lambda each: each[0])
        settings[name] = {"leaves": leaves, "validation_mrr": quality}
    return scores, settings


def _trees(ranking: Ranking, features: Floats, train: Ints, leaves: int) -> Floats:
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


def _encoded(ranking: Ranking, first: Any, config: TrainConfig) -> Floats:
    """[N, K, 2 + COMPONENTS]: how near each hotel is to the session and to the hotel touched last, and
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
    embedding = np.zeros((len(ranking.at), config.dim))
    embedding[rows] = embedded(encoder, tokenizer, sessions, config.threads)
    own, last = _hotels(ranking, encoder, tokenizer)
    components = PCA(min(COMPONENTS, config.dim), random_state=0).fit(embedding[first]).transform(embedding)
    return np.concatenate(
        [
            np.einsum("nd,nkd->nk", _unit(embedding), own)[:, :, None],
            np.einsum("nd,nkd->nk", last, own)[:, :, None],
            np.repeat(components[:, None, :], SHOWN, axis=1),
        ],
        axis=2,
    )


def _hotels(ranking: Ranking, encoder: Encoder, tokenizer: Tokenizer) -> tuple[Floats, Floats]:
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


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-9)
    return unit
