"""Names for clusters of sessions: c-TF-IDF over words of paths, categories, pages and queries.

A term counts once per session. Its weight in a cluster is its share of the cluster's terms times log(1 + A /
f), where A is the mean number of terms per cluster and f the term's count over all clusters (Grootendorst
2022, BERTopic). Terms of too few visitors never name anything: they might be somebody's own words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from streamer.models.arrays import Int64
from streamer.models.queries import words_of
from streamer.models.taxonomy import unused_id
from streamer.schemas.click import Click, Session

TERMS_KEPT = 8
_WORD = re.compile(r"[^\W\d_]{3,}")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def _terms_of_click(click: Click) -> Iterator[str]:
    """What it is about: no words of what was done, which its event type has, and an element or a product's id
    only where nothing else is there."""
    words = _words_in(click.path, click.category, click.page_type) or _words_in(click.element)
    if click.search_query:
        words += [word for word in words_of(click.search_query) if _WORD.fullmatch(word)]
    done = set(_words_in(click.event_type))
    yield from (word for word in words if word not in ENGLISH_STOP_WORDS and word not in done)
    if not (click.path or click.category or click.page_type or click.element) and click.product_id:
        yield click.product_id


def _words_in(*texts: str | None) -> list[str]:
    return [word for text in texts if text for word in _WORD.findall(text.casefold())]


def terms_of(session: Session) -> set[str]:
    return {term for click in session.clicks for term in _terms_of_click(click)}


def distinctive_terms(
    sessions: Sequence[Session], labels: Int64, clusters: int, min_visitors: int
) -> list[list[str]]:
    """The most distinctive terms of each cluster, best first; a session with label -1 belongs to none."""
    terms = [terms_of(session) for session in sessions]
    vocabulary = _shared_terms(sessions, terms, min_visitors)
    counts = np.zeros((clusters, len(vocabulary)))
    for label, found in zip(labels.tolist(), terms, strict=True):
        if label >= 0:
            counts[label, [vocabulary[term] for term in found if term in vocabulary]] += 1
    return _ranked(counts, list(vocabulary))


def _shared_terms(
    sessions: Sequence[Session], terms: Sequence[set[str]], min_visitors: int
) -> dict[str, int]:
    """Column of each term that occurs in sessions of at least `min_visitors` visitors; alphabetical."""
    visitors: dict[str, set[str]] = defaultdict(set)
    for session, found in zip(sessions, terms, strict=True):
        for term in found:
            visitors[term].add(session.visitor_id)
    shared = sorted(term for term, who in visitors.items() if len(who) >= min_visitors)
    return {term: i for i, term in enumerate(shared)}


def _ranked(counts: npt.NDArray[np.float64], vocabulary: Sequence[str]) -> list[list[str]]:
    """c-TF-IDF, then the best of each row; ties alphabetically."""
    per_cluster = counts.sum(1, keepdims=True)
    weight = counts / np.maximum(per_cluster, 1) * np.log1p(per_cluster.mean() / np.maximum(counts.sum(0), 1))
    best = np.argsort(-weight, axis=1, kind="stable")[:, :TERMS_KEPT]
    return [[vocabulary[t] for t in row if weight[c, t] > 0] for c, row in enumerate(best)]


def labels_from(terms: Sequence[Sequence[str]], words: int) -> list[str]:
    """A label per cluster of its first `words` terms, and of more where two would be the same."""
    labels: list[str] = []
    for i, ranked in enumerate(terms):
        distinct = _unlike(ranked)
        used = words
        label = " / ".join(distinct[:used]) or f"cluster {i + 1}"
        while label in labels and used < len(distinct):
            used += 1
            label = " / ".join(distinct[:used])
        labels.append(label if label not in labels else f"{label} ({i + 1})")
    return labels


def _unlike(ranked: Sequence[str]) -> list[str]:
    """Without terms that are part of an earlier one or contain it, as `loan` and `loans`."""
    kept: list[str] = []
    for term in ranked:
        if not any(term in other or other in term for other in kept):
            kept.append(term)
    return kept


def slugs(labels: Sequence[str], taken: set[str]) -> list[str]:
    """An id per label: `"loans / rates"` gives `loans-rates`; adds them to `taken`."""
    ids = []
    for label in labels:
        ids.append(unused_id(_NOT_SLUG.sub("-", label.casefold()).strip("-") or "intent", taken))
        taken.add(ids[-1])
    return ids
