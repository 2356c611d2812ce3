"""The simplest description of a session: how often each page and each search word occurs in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.features import Floats
from schemas.click import Session

MIN_SESSIONS = 10
"""Items in fewer training sessions are left out."""


@dataclass(frozen=True, slots=True)
class Bag:
    """Items and their columns, learnt from training sessions alone."""

    columns: dict[str, int]

    @classmethod
    def fit(cls, sessions: Sequence[Session]) -> Bag:
        counts = Counter(item for session in sessions for item in set(_items(session)))
        kept = sorted(item for item, count in counts.items() if count >= MIN_SESSIONS)
        return cls({item: column for column, item in enumerate(kept)})

    def encode(self, sessions: Sequence[Session]) -> Floats:
        """[S, F]: log(1 + count)"""
        counts = np.zeros((len(sessions), len(self.columns)))
        for row, session in enumerate(sessions):
            for item in _items(session):
                column = self.columns.get(item)
                if column is not None:
                    counts[row, column] += 1.0
        encoded: Floats = np.log1p(counts)
        return encoded


def _items(session: Session) -> list[str]:
    items = [f"event {click.event_type}" for click in session.clicks]
    for click in session.clicks:
        if click.path is not None:
            items.append(f"page {click.path}")
        if click.search_query is not None:
            items += [f"word {word}" for word in click.search_query.lower().split()]
    return items
