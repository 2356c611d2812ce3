"""Features that know when they were known, so that a leak is an error and not a good result.

Whatever went into a row's features was known strictly before that row was decided. Also here: the bag, which
is the simplest description of a session (how often each page and each search word occurs in it), and the
standardization of columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.schemas.click import Session

NEVER = np.iinfo(np.int64).min
"""`known_at` of what was known from the beginning."""

MIN_SESSIONS = 10
"""Items in fewer training sessions are left out."""


class LeakError(ValueError):
    """A feature holds something that was not known yet when its row was decided."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """N rows of F features. `known_at` [N]: when the last thing that went into a row happened, ms UTC."""

    name: str
    values: Float64
    known_at: Int64

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.known_at.shape != self.values.shape[:1]:
            raise ValueError(
                f"features {self.name}: values {self.values.shape} with known_at {self.known_at.shape},"
                " expected [N, F] with [N]"
            )
        if not np.isfinite(self.values).all():
            raise ValueError(
                f"features {self.name}: row {self._first_bad()} has NaN or infinity, expected numbers"
            )

    def _first_bad(self) -> int:
        return int(np.flatnonzero(~np.isfinite(self.values).all(axis=1))[0])


def require_known(table: FeatureTable, decided_at: Int64) -> None:
    """Raises LeakError if anything in the table was not known strictly before its row was decided."""
    late = np.flatnonzero(table.known_at >= decided_at)
    if len(late):
        row = int(late[0])
        raise LeakError(
            f"features {table.name}: {len(late)} of {len(decided_at)} rows know too much, first row {row}:"
            f" known at {table.known_at[row]}, decided at {decided_at[row]} ms, expected known before decided"
        )


def join_tables(tables: Sequence[FeatureTable], decided_at: Int64) -> Float64:
    """[N, F1 + F2 + ...], after every table was checked for leaks."""
    for table in tables:
        require_known(table, decided_at)
    return np.concatenate([table.values for table in tables], axis=1)


@dataclass(frozen=True, slots=True)
class Bag:
    """Items and their columns, learnt from training sessions alone."""

    columns: dict[str, int]

    @classmethod
    def fit(cls, sessions: Sequence[Session]) -> Bag:
        counts = Counter(item for session in sessions for item in set(_items(session)))
        kept = sorted(item for item, count in counts.items() if count >= MIN_SESSIONS)
        return cls({item: column for column, item in enumerate(kept)})

    def encode(self, sessions: Sequence[Session]) -> Float64:
        """[S, F]: log(1 + count)"""
        counts = np.zeros((len(sessions), len(self.columns)))
        for row, session in enumerate(sessions):
            for item in _items(session):
                column = self.columns.get(item)
                if column is not None:
                    counts[row, column] += 1.0
        encoded: Float64 = np.log1p(counts)
        return encoded


def _items(session: Session) -> list[str]:
    items = [f"event {click.event_type}" for click in session.clicks]
    for click in session.clicks:
        if click.path is not None:
            items.append(f"page {click.path}")
        if click.search_query is not None:
            items += [f"word {word}" for word in click.search_query.lower().split()]
    return items
