"""What is compared: heads on a team's features, on clicks and on the embedding, and means of their logits.

`hand` is what a team has or could make without the embedding: trees and a logistic regression on its own
features, and both on n-grams of pages. `fused` is the mean of `hand` and of a logistic regression on the
embedding, which stays as it is. Concatenation is shown if asked for, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from models.arrays import Float64, Int64
from models.evaluation.probe.tuning import Tuned, folds_of, sharpness_of, tuned_linear, tuned_trees
from models.fused.heads import log_softmax
from models.fused.scorer import Block

MOST_OF_CLICKS = 100
"""Columns that trees see of clicks: times, and the most frequent items. Linear heads see all."""


class HeadName(NamedTuple):
    reads: Block
    kind: Literal["trees", "linear"]


Weights = Mapping[HeadName, float]

_TREES, _LOGISTIC = HeadName("features", "trees"), HeadName("features", "linear")
_NGRAM_TREES, _NGRAMS = HeadName("clicks", "trees"), HeadName("clicks", "linear")
_EMBEDDING = HeadName("embedding", "linear")
_BOTH_TREES, _BOTH = HeadName("features+embedding", "trees"), HeadName("features+embedding", "linear")

OWN, HAND, EMBEDDING, OWN_FUSED, FUSED = (
    "features",
    "hand",
    "embedding",
    "features fused with embedding",
    "hand fused with embedding",
)
CONCATENATED = "features concatenated with embedding"


def mean_of(*parts: Weights) -> dict[HeadName, float]:
    """The mean of the parts' logits, as weights of heads."""
    heads = dict.fromkeys(head for part in parts for head in part)
    return {head: sum(part.get(head, 0.0) for part in parts) / len(parts) for head in heads}


_OWN = mean_of({_TREES: 1.0}, {_LOGISTIC: 1.0})
_HAND = mean_of(_OWN, mean_of({_NGRAM_TREES: 1.0}, {_NGRAMS: 1.0}))
CONTENDERS: Mapping[str, Weights] = {
    "features, trees": {_TREES: 1.0},
    "features, logistic": {_LOGISTIC: 1.0},
    OWN: _OWN,
    "n-grams, trees": {_NGRAM_TREES: 1.0},
    "n-grams, logistic": {_NGRAMS: 1.0},
    HAND: _HAND,
    EMBEDDING: {_EMBEDDING: 1.0},
    OWN_FUSED: mean_of(_OWN, {_EMBEDDING: 1.0}),
    FUSED: mean_of(_HAND, {_EMBEDDING: 1.0}),
}
WITH_CONCATENATION: Mapping[str, Weights] = {
    **CONTENDERS,
    CONCATENATED: mean_of({_BOTH_TREES: 1.0}, {_BOTH: 1.0}),
}


def mixed(logs: Mapping[HeadName, Float64], weights: Weights) -> Float64:
    """[N, K]: the weighted mean of what the heads give."""
    return np.asarray(sum(weight * logs[head] for head, weight in weights.items()))


def scores(
    fitted: Mapping[HeadName, Tuned],
    contenders: Mapping[str, Weights],
    labels: Int64,
    blocks: Mapping[Block, Float64],
) -> dict[str, Float64]:
    """Log probabilities [B, K] of each contender for other rows. `labels` are those of the fitted rows, by
    which every mean is made as sharp as suits them."""
    held_out = {name: tuned.held_out for name, tuned in fitted.items()}
    given = {name: tuned.head.log_probabilities(blocks[name.reads]) for name, tuned in fitted.items()}
    return {
        contender: log_softmax(sharpness_of(mixed(held_out, weights), labels) * mixed(given, weights))
        for contender, weights in contenders.items()
    }


def fitted_heads(
    blocks: Mapping[Block, Float64],
    labels: Int64,
    classes: int,
    owners: Int64,
    names: Sequence[HeadName],
    seed: int,
) -> dict[HeadName, Tuned]:
    """All on the same labelled rows and the same folds. `owners` [N] are numbers."""
    folds = folds_of(owners, labels, seed)
    fitted = {}
    for name in names:
        values = blocks[name.reads]
        if name.kind == "linear":
            fitted[name] = tuned_linear(values, labels, classes, folds)
        else:
            seen = values[:, :MOST_OF_CLICKS] if name.reads == "clicks" else values
            fitted[name] = tuned_trees(seen, labels, classes, folds, seed)
    return fitted
