"""How little the known intents explain of what a session looked at.

A session is a bag of items: the words of its queries, else the page. Each intent has a distribution over
items, learnt from labelled sessions; a session is explained by a mixture of intents that suits it
(T. Hofmann, Probabilistic Latent Semantic Indexing, SIGIR 1999). Pages that every intent's visitors pass by
now and then are unlikely under all intents: a session that stays on them is surprising, though no page of it
is unknown.
S sessions, K intents, V items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.queries import words_of
from models.training.teacher import Float32, Int64, SoftLabels
from schemas.click import Click, Session

Floats = npt.NDArray[np.float64]

MIN_SESSIONS = 10
"""Items of fewer labelled sessions are one item, the last."""
_SMOOTHING = 20.0
"""Items that each intent is lent, in the shares of all sessions."""
_ROUNDS = 2
"""Of expectation and maximisation, from even shares: more let odd mixtures explain odd sessions too well."""


def items_of(click: Click) -> Iterator[str]:
    if click.search_query:
        yield from (f"word {word}" for word in words_of(click.search_query))
    else:
        yield f"page {page_of(click)}"


def page_of(click: Click) -> str:
    """Whatever the site says of where a click was, the finest first."""
    named = click.path or click.product_id or click.category or click.element or click.page_type
    return named or click.event_type


@dataclass(frozen=True)
class _Bags:
    """One entry per session and item of it."""

    rows: Int64
    columns: Int64
    counts: Floats
    sessions: int


@dataclass(frozen=True)
class ItemModel:
    columns: dict[str, int]
    chances: Floats
    """[V, K]: of each item under each intent"""

    @classmethod
    def fit(cls, sessions: Sequence[Session], labels: SoftLabels) -> ItemModel:
        """`labels.rows` are places among the sessions."""
        labelled = [sessions[row] for row in labels.rows.tolist()]
        seen = Counter(item for session in labelled for item in _bag(session))
        kept = sorted(item for item, count in seen.items() if count >= MIN_SESSIONS)
        columns = {item: column for column, item in enumerate(kept)}
        bags = _bags(labelled, columns)
        soft = labels.probabilities.astype(np.float64)
        # One column at a time: all at once would be sessions by items by intents.
        counts = np.stack(
            [
                np.bincount(bags.columns, bags.counts * soft[bags.rows, k], len(kept) + 1)
                for k in range(soft.shape[1])
            ],
            axis=1,
        )
        everywhere = counts.sum(axis=1, keepdims=True) + 0.5
        lent = _SMOOTHING * everywhere / everywhere.sum()
        return cls(columns, (counts + lent) / (counts.sum(axis=0) + _SMOOTHING))

    def surprise(self, sessions: Sequence[Session]) -> Float32:
        """[S]: minus log likelihood an item under the session's mixture of intents, in nats."""
        bags = _bags(sessions, self.columns)
        likely = self.chances[bags.columns]
        mixture = np.full((bags.sessions, likely.shape[1]), 1.0 / likely.shape[1])
        for _ in range(_ROUNDS):
            weight = bags.counts / (mixture[bags.rows] * likely).sum(axis=1)
            share = [np.bincount(bags.rows, weight * each, bags.sessions) for each in likely.T]
            mixture *= np.stack(share, axis=1)
            mixture /= np.maximum(mixture.sum(axis=1, keepdims=True), 1e-300)
        logs = np.log(np.maximum((mixture[bags.rows] * likely).sum(axis=1), 1e-300))
        items = np.bincount(bags.rows, bags.counts, bags.sessions)
        summed = np.bincount(bags.rows, bags.counts * logs, bags.sessions)
        found: Float32 = (-summed / np.maximum(items, 1.0)).astype(np.float32)
        return found


def _bag(session: Session) -> Counter[str]:
    return Counter(item for click in session.clicks for item in items_of(click))


def _bags(sessions: Sequence[Session], columns: dict[str, int]) -> _Bags:
    rows, places, counts = [], [], []
    for row, session in enumerate(sessions):
        for item, count in _bag(session).items():
            rows.append(row)
            places.append(columns.get(item, len(columns)))
            counts.append(float(count))
    return _Bags(np.array(rows, np.int64), np.array(places, np.int64), np.array(counts), len(sessions))
