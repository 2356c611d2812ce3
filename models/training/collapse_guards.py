"""Has the encoder collapsed? Rank and spread of its embeddings, and a probe beside an untrained encoder.

The probe needs no labels: from a session without its last click, a logistic regression predicts that click.
An encoder that has learnt something does so better than one with random weights.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamer.models.arrays import Float32, Int64
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.training.corpus import Corpus, slice_clicks
from streamer.models.training.encoder import Encoder

_CLASSES = 20
_TRAIN_ROWS, _TEST_ROWS = 4000, 4000
MIN_RANK_SHARE = 0.1
MIN_STD = 1e-3


@dataclass(frozen=True)
class Guards:
    effective_rank: float
    """exp of the entropy of the embeddings' singular values, at most their width."""
    min_std: float
    """Of the dimension that varies least."""
    probe_field: str
    probe_accuracy: float
    untrained_accuracy: float
    majority_accuracy: float
    passed: bool

    def as_dict(self) -> dict[str, float | str | bool]:
        return asdict(self)


def collapse_guards(encoder: Encoder, untrained: Encoder, train: Corpus, validation: Corpus) -> Guards:
    """`untrained` has the same shape; both corpora have sessions."""
    field, classes = _probe_target(train)
    trained = _probe(encoder, field, classes, train, validation)
    before = _probe(untrained, field, classes, train, validation)
    embeddings = _embeddings(encoder, validation)
    rank, std = effective_rank(embeddings), float(embeddings.std(0).min())
    enough = rank >= MIN_RANK_SHARE * encoder.shape.dim and std >= MIN_STD
    return Guards(
        effective_rank=round(rank, 2),
        min_std=round(std, 4),
        probe_field=LEARNT_FIELDS[field],
        probe_accuracy=round(trained[0], 4),
        untrained_accuracy=round(before[0], 4),
        majority_accuracy=round(trained[1], 4),
        passed=bool(enough and trained[0] > before[0]),
    )


def effective_rank(embeddings: Float32) -> float:
    spectrum = np.linalg.svd(embeddings - embeddings.mean(0), compute_uv=False).astype(np.float64)
    p = spectrum[spectrum > 0] / max(spectrum.sum(), 1e-30)
    return float(np.exp(-(p * np.log(p)).sum()))


@torch.no_grad()
def _embeddings(encoder: Encoder, corpus: Corpus) -> Float32:
    parts = [encoder(*tokens).numpy() for _, tokens in corpus.in_order()]
    return np.concatenate(parts).astype(np.float32)


def _last_ids(corpus: Corpus) -> Int64:
    """[N, LEARNT_FIELDS]: ids of the last click of sessions with two clicks or more."""
    found = [np.zeros((0, len(LEARNT_FIELDS)), np.int64)]
    for _, tokens in corpus.in_order():
        last = (tokens.lengths.long() - 1).clamp(min=0)
        ids = tokens.event_ids[torch.arange(len(last)), last]
        found.append(ids[tokens.lengths > 1][:, : len(LEARNT_FIELDS)].numpy().astype(np.int64))
    return np.concatenate(found)


def _probe_target(corpus: Corpus) -> tuple[int, Int64]:
    """The field whose frequent values have the highest entropy, and the ids of these values."""
    ids = _last_ids(corpus)
    best, most = (0, np.zeros(0, np.int64)), -1.0
    for field in range(len(LEARNT_FIELDS)):
        values, counts = np.unique(ids[ids[:, field] > 0, field], return_counts=True)
        frequent = np.argsort(-counts, kind="stable")[:_CLASSES]
        p = counts[frequent] / max(1, counts[frequent].sum())
        entropy = float(-(p * np.log(p)).sum())
        if entropy > most:
            best, most = (field, np.sort(values[frequent])), entropy
    return best


def _probe(
    encoder: Encoder, field: int, classes: Int64, train: Corpus, validation: Corpus
) -> tuple[float, float]:
    """Accuracy on validation of the probe and of always naming the most frequent class."""
    x, y = _prefixes(encoder, field, classes, train, _TRAIN_ROWS)
    x_test, y_test = _prefixes(encoder, field, classes, validation, _TEST_ROWS)
    if len(set(y.tolist())) < 2 or not len(y_test):
        return 0.0, 0.0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    with warnings.catch_warnings():
        # A probe that hasn't quite converged still shows which of two encoders is better.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    majority = np.bincount(y).argmax()
    return float((model.predict(x_test) == y_test).mean()), float((y_test == majority).mean())


@torch.no_grad()
def _prefixes(
    encoder: Encoder, field: int, classes: Int64, corpus: Corpus, most: int
) -> tuple[Float32, Int64]:
    """Embeddings of sessions without their last click, and that click's id; the first `most` of them."""
    features, targets, found = (
        [np.zeros((0, encoder.shape.embedding_dim), np.float32)],
        [np.zeros(0, np.int64)],
        0,
    )
    for _, tokens in corpus.in_order():
        rows = (tokens.lengths > 1).nonzero().squeeze(1)
        if not len(rows) or found >= most:
            continue
        some = type(tokens)(*(each[rows] for each in tokens))
        lengths = some.lengths.long()
        target = some.event_ids[torch.arange(len(rows)), lengths - 1, field].numpy().astype(np.int64)
        prefix = slice_clicks(some, torch.zeros_like(lengths), lengths - 1)
        known = np.isin(target, classes)
        features.append(encoder(*prefix).numpy()[known])
        targets.append(target[known])
        found += int(known.sum())
    return np.concatenate(features)[:most], np.concatenate(targets)[:most]
