"""The novelty score: how far a session is from every known intent, how surprising, and how hard to classify.

novelty = distance + 1.5 surprise + 0.5 doubt, each in standard deviations of training sessions; 0 is usual.
Distance: Mahalanobis distance to the nearest intent (K. Lee et al., NeurIPS 2018) under one covariance,
shrunk as by Ledoit and Wolf. Surprise: minus log likelihood of the session's items under a mixture of the
known intents (T. Hofmann, Probabilistic Latent Semantic Indexing, SIGIR 1999), predicted from the embedding
by a small network: a session that stays on pages which visitors of every intent only pass by is surprising,
though no page of it is unknown. The network also learns from sessions made unusual by exchanging clicks
(compare D. Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019). Doubt: one minus the
classifier's best probability. Shapes: B rows, N sessions, D dimensions, K intents, V items.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float32, Float64, Int64
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.queries import words_of
from streamer.models.training.config import TrainConfig
from streamer.models.training.layers import descend, draw_layers
from streamer.schemas.click import Click, Session

SURPRISE_WEIGHT, DOUBT_WEIGHT = 1.5, 0.5
"""Weights beside a weight of 1 for the distance, all in standard deviations."""
_LEAST_VARIANCE, _LEAST_SPREAD = 1e-4, 0.1
"""Sessions that are all alike have no spread; without these floors rounding errors would be blown up."""

MIN_SESSIONS = 10
"""Items in fewer labelled sessions share one column, the last."""
_SMOOTHING = 20.0
"""Pseudo-counts per intent, distributed as the items of all sessions."""
_ROUNDS = 2
"""EM iterations from even shares: with more, odd mixtures explain odd sessions too well."""
PAGES = (1, 2, 3)
"""Number of pages that a session's exchanged clicks come from; every session is used with each number."""
UNSEEN_SHARE = 0.1
"""Of the pages drawn."""
MOST_EXCHANGED = 0.9
"""Up to this share of a session's clicks, each share as often as any other."""
MOST_SESSIONS = 10_000
_NAMED = ("page_type", "element", "category", "product_id", "search_query")
_EXCHANGED = (*_NAMED, "path", "event_type")
Embed = Callable[[Sequence[Session]], Float32]


class Novelty(nn.Module):
    """From an embedding, centred [B, D] and standardized [B, D], and its logits [B, K] to novelty [B]."""

    whiten: Tensor
    centres: Tensor
    usual: Tensor
    weight: Tensor

    def __init__(self, dim: int, hidden: int, intents: int) -> None:
        super().__init__()
        self.register_buffer("whiten", torch.eye(dim))
        self.register_buffer("centres", torch.zeros(intents, dim))
        self.register_buffer("usual", torch.zeros(2))
        self.register_buffer("weight", torch.ones(2))
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, 1)

    def forward(self, centred: Tensor, scaled: Tensor, logits: Tensor) -> Tensor:
        evidence = torch.stack([self.distance(centred), doubt(logits)], dim=1)
        weighed: Tensor = ((evidence - self.usual) * self.weight).sum(1)
        return weighed + self.surprise(scaled)

    def distance(self, centred: Tensor) -> Tensor:
        """[B]"""
        apart = (centred @ self.whiten).unsqueeze(1) - self.centres
        return (apart * apart).sum(2).amin(1).sqrt()

    def surprise(self, scaled: Tensor) -> Tensor:
        """[B]"""
        predicted: Tensor = self.narrow(F.relu(self.widen(scaled)))
        return predicted.squeeze(1)


def doubt(logits: Tensor) -> Tensor:
    """[B]. Without a sum over intents, whose order can depend on a row's place in its batch."""
    return (1.0 - logits.softmax(1)).amin(1)


@torch.no_grad()
def place_intents(
    novelty: Novelty, centred: Tensor, soft: Float32, logits: Tensor, doubt_weight: float
) -> None:
    """Fits distance and doubt to centred embeddings [M, D], labels `soft` [M, K] and logits; surprise is 0 as
    yet."""
    _place_centres(novelty, centred.numpy(), soft)
    evidence = torch.stack([novelty.distance(centred), doubt(logits)], dim=1)
    novelty.usual.copy_(evidence.mean(0))
    spread = evidence.std(0, correction=0).clamp(min=_LEAST_SPREAD)
    novelty.weight.copy_(torch.tensor([1.0, doubt_weight]) / spread)
    nn.init.zeros_(novelty.narrow.weight)
    nn.init.zeros_(novelty.narrow.bias)


def _place_centres(novelty: Novelty, embeddings: Float32, soft: Float32) -> None:
    """Means of the intents' sessions and a whitening shared by all."""
    labels, mean = soft.argmax(1), embeddings.mean(0)
    centres = np.stack(
        [embeddings[labels == k].mean(0) if (labels == k).any() else mean for k in range(soft.shape[1])]
    )
    covariance = LedoitWolf().fit(embeddings - centres[labels]).covariance_
    precision = np.linalg.inv(covariance + _LEAST_VARIANCE * np.eye(len(mean)))
    whiten = np.linalg.cholesky(precision)
    novelty.whiten.copy_(torch.from_numpy(whiten))
    novelty.centres.copy_(torch.from_numpy(centres @ whiten))


def learn_surprise(
    novelty: Novelty, scaled: Tensor, surprising: Surprising, config: TrainConfig, generator: torch.Generator
) -> None:
    """`scaled` [N, D] are the embeddings of `surprising`, scaled as the classifier sees them."""
    real = slice(surprising.real)
    surprise = torch.from_numpy(surprising.surprise)
    spread = surprise[real].std(correction=0).clamp(min=_LEAST_SPREAD)
    wanted = (surprise - surprise[real].mean()) / spread
    layers = (novelty.widen, novelty.narrow)
    draw_layers(layers, generator)
    descend(
        layers,
        lambda rows: F.mse_loss(novelty.surprise(scaled[rows]), wanted[rows]),
        len(wanted), config, generator,
    )  # fmt: skip
    with torch.no_grad():
        predicted = novelty.surprise(scaled[real])
        weight = SURPRISE_WEIGHT / predicted.std(correction=0).clamp(min=_LEAST_SPREAD)
        novelty.narrow.bias.sub_(predicted.mean()).mul_(weight)
        novelty.narrow.weight.mul_(weight)


def items_of(click: Click) -> Iterator[str]:
    if click.search_query:
        yield from (f"word {word}" for word in words_of(click.search_query))
    else:
        yield f"page {page_of(click)}"


def page_of(click: Click) -> str:
    """The most specific name of the page: path, product, category, element, page type or event type."""
    named = click.path or click.product_id or click.category or click.element or click.page_type
    return named or click.event_type


@dataclass(frozen=True)
class _Bags:
    """One entry per session and item, as coordinates and counts."""

    rows: Int64
    columns: Int64
    counts: Float64
    sessions: int


@dataclass(frozen=True)
class ItemModel:
    columns: dict[str, int]
    chances: Float64
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
        """[N]: minus log likelihood per item under the session's mixture of intents, in nats."""
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


@dataclass(frozen=True)
class Surprising:
    """Real and unusual sessions: embeddings [N, D], and how surprising each is [N]; the real ones first."""

    embeddings: Float32
    surprise: Float32
    real: int


def surprising(
    sessions: Sequence[Session], labels: SoftLabels, embed: Embed, rng: np.random.Generator
) -> Surprising:
    """Of training sessions; `labels.rows` are places among them."""
    model = ItemModel.fit(sessions, labels)
    chosen = np.sort(rng.permutation(len(sessions))[:MOST_SESSIONS])
    real = [sessions[row] for row in chosen.tolist()]
    pools = clicks_by_page(sessions)
    made = [each for pages in PAGES for each in exchanged(real, pools, pages, rng)]
    every = [*real, *made]
    return Surprising(embed(every), model.surprise(every), len(real))


def clicks_by_page(sessions: Sequence[Session]) -> list[list[Click]]:
    """Clicks by page, or by query; those of fewer than MIN_SESSIONS clicks are left out."""
    by_page: dict[tuple[bool, str], list[Click]] = defaultdict(list)
    for session in sessions:
        for click in session.clicks:
            query = click.search_query
            by_page[bool(query), query.casefold() if query else page_of(click)].append(click)
    return [clicks for clicks in by_page.values() if len(clicks) >= MIN_SESSIONS]


def exchanged(
    sessions: Sequence[Session], pools: Sequence[Sequence[Click]], pages: int, rng: np.random.Generator
) -> list[Session]:
    """Times and everything else about the visit stay. Empty if there are no pages to draw from."""
    if not pools:
        return []
    return [_exchanged(session, pools, pages, rng) for session in sessions]


def _exchanged(
    session: Session, pools: Sequence[Sequence[Click]], pages: int, rng: np.random.Generator
) -> Session:
    drawn = [_pool(pools, rng) for _ in range(pages)]
    hit = rng.random(len(session.clicks)) < rng.uniform(0.0, MOST_EXCHANGED)
    clicks = list(session.clicks)
    for at in np.flatnonzero(hit).tolist():
        pool = drawn[int(rng.integers(pages))]
        donor = pool[int(rng.integers(len(pool)))]
        clicks[at] = replace(clicks[at], **{name: getattr(donor, name) for name in _EXCHANGED})
    return replace(session, clicks=clicks)


def _pool(pools: Sequence[Sequence[Click]], rng: np.random.Generator) -> Sequence[Click]:
    pool = pools[int(rng.integers(len(pools)))]
    if rng.random() >= UNSEEN_SHARE:
        return pool
    return [_unseen(pool[0], f"unseen{rng.integers(1 << 32):x}")]


def _unseen(click: Click, name: str) -> Click:
    """The click with an unseen name for everything that it names; a path stays as deep as it is."""
    named: dict[str, Any] = {field: name for field in _NAMED if getattr(click, field)}
    path = click.path and "".join(f"/{name}" for part in click.path.split("/") if part)
    return replace(click, **named, path=path or click.path)
