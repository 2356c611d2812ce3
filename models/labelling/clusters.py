"""Clusters of sessions, what is typical of each, and the interface of what names them.

A line of a profile is what a click shows without its time: event, page, search. It counts once per session.
How typical it is of a cluster: p log(p / q), its part of the Kullback-Leibler divergence, where p is the
share of the cluster's sessions that have it and q that of all sessions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Protocol

import numpy as np

from streamer.models.arrays import Int64
from streamer.models.labelling import naming
from streamer.models.labelling.rendering import Scrub, plain
from streamer.models.labelling.teacher import Estimate
from streamer.schemas.click import Click, Session

_SEEN = frozenset({"page_view", "click", "search", "scroll"})
"""Events that say no more than that a page was looked at."""


@dataclass(frozen=True)
class Clusters:
    """K clusters of N training sessions."""

    sessions: Sequence[Session]
    labels: Int64
    """[N]: the cluster of each session."""
    parents: Int64
    """[K]: which clusters are near each other."""
    min_visitors: int
    """A word or a line of fewer visitors says nothing about a cluster: it might be somebody's own."""


@dataclass(frozen=True)
class Names:
    """Of I intents made of K clusters, and of their parents."""

    labels: Sequence[str]
    descriptions: Sequence[str]
    terms: Sequence[Sequence[str]]
    parents: Int64
    """[I]: parent of each intent."""
    parent_labels: Sequence[str]
    intent_of: Int64
    """[K]: the intent of each cluster; several clusters may be one intent."""
    notes: Mapping[str, float | int | str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


class ClusterNamer(Protocol):
    @property
    def name(self) -> str:
        """Of the teacher whose clusters it names."""

    def estimate(self, clusters: Clusters) -> Estimate:
        """What naming will cost and send; asks nothing."""

    def names(self, clusters: Clusters) -> Names: ...


class WordNamer:
    """Names of the words most typical of each cluster; needs no language model."""

    name = "keyless"

    def estimate(self, _clusters: Clusters) -> Estimate:
        return Estimate()

    def names(self, clusters: Clusters) -> Names:
        terms = terms_of_clusters(clusters, clusters.labels, len(clusters.parents))
        groups = int(clusters.parents.max()) + 1
        parent_terms = terms_of_clusters(clusters, clusters.parents[clusters.labels], groups)
        return Names(
            labels=naming.labels_from(terms, words=2),
            descriptions=[f"Sessions marked by: {', '.join(found)}." if found else "" for found in terms],
            terms=terms,
            parents=clusters.parents,
            parent_labels=naming.labels_from(parent_terms, words=1),
            intent_of=np.arange(len(clusters.parents)),
        )


def terms_of_clusters(clusters: Clusters, labels: Int64, number: int) -> list[list[str]]:
    return naming.distinctive_terms(clusters.sessions, labels, number, clusters.min_visitors)


@dataclass(frozen=True)
class Line:
    text: str
    share: float
    """Of the cluster's sessions."""
    share_of_all: float


@dataclass(frozen=True)
class Profile:
    """What a cluster's sessions show, for somebody who has to name it."""

    share: float
    """Of all sessions."""
    lines: tuple[Line, ...]
    """The most typical first."""


def profiles(clusters: Clusters, scrub: Scrub, most: int) -> list[Profile]:
    """Of each cluster, with at most `most` lines; the text of a line is scrubbed."""
    shown = [_lines_of(session, scrub) for session in clusters.sessions]
    known = _shared(clusters, shown)
    number = len(clusters.parents)
    counts: list[Counter[str]] = [Counter() for _ in range(number)]
    for label, texts in zip(clusters.labels.tolist(), shown, strict=True):
        counts[label].update(texts & known)
    of_all = sum(counts, Counter[str]())
    sizes = np.bincount(clusters.labels, minlength=number).tolist()
    found = []
    for k in range(number):
        lines = [Line(text, times / sizes[k], of_all[text] / len(shown)) for text, times in counts[k].items()]
        found.append(Profile(sizes[k] / len(shown), _most_typical(lines, most)))
    return found


def _most_typical(lines: Sequence[Line], most: int) -> tuple[Line, ...]:
    """Without those that say the same as a more typical one and more, as a click on a page and the page."""
    kept: list[Line] = []
    for line in sorted(lines, key=lambda line: (-_typical(line), line.text)):
        if len(kept) == most or _typical(line) <= 0:
            break
        if not any(f" {line.text}".endswith(f" {k.text}") or k.text.endswith(f" {line.text}") for k in kept):
            kept.append(line)
    return tuple(kept)


def contrast(a: Profile, b: Profile, most: int) -> tuple[list[Line], list[Line]]:
    """The lines of each that the other has less of, those with the largest difference first."""

    def of(ours: Profile, theirs: Profile) -> list[Line]:
        other = {line.text: line.share for line in theirs.lines}
        ranked = sorted(ours.lines, key=lambda line: (other.get(line.text, 0.0) - line.share, line.text))
        return [line for line in ranked[:most] if line.share > other.get(line.text, 0.0)]

    return of(a, b), of(b, a)


def _typical(line: Line) -> float:
    return line.share * log(line.share / line.share_of_all) if line.share else 0.0


def _shared(clusters: Clusters, shown: Sequence[set[str]]) -> set[str]:
    visitors: dict[str, set[str]] = defaultdict(set)
    for session, lines in zip(clusters.sessions, shown, strict=True):
        for line in lines:
            visitors[line].add(session.visitor_id)
    return {line for line, who in visitors.items() if len(who) >= clusters.min_visitors}


def _lines_of(session: Session, scrub: Scrub) -> set[str]:
    return {line for click in session.clicks for line in _lines_of_click(click, scrub)}


def _lines_of_click(click: Click, scrub: Scrub) -> Iterator[str]:
    """Without product ids: they name nothing that a reader knows."""
    event = [] if click.event_type in _SEEN else [click.event_type]
    where = click.path or click.page_type or click.category
    if where:
        yield " ".join(plain(part, scrub) for part in (*event, where))
    if click.category and where != click.category:
        yield plain(click.category, scrub)
    if click.element and not click.path:
        yield f"{plain(click.event_type, scrub)} #{plain(click.element, scrub)}"
    if click.search_query:
        yield f'search "{plain(click.search_query, scrub).casefold()}"'
    if not (where or click.element or click.search_query):
        yield plain(click.event_type, scrub)
