"""A row's own features, and the clicks of its session, as numbers. N rows, F columns.

What the columns are is learnt from training rows. Features: numbers, a mark where one is missing, and one
column per frequent category. Clicks: counts of pages, of pairs of pages, of words and the like, the first and
the last pages, and times; what a team would make by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.schemas.click import Click, Session

Columns = Mapping[str, Sequence[float | str | None]]
"""Values by column, None where there is none; a column holds numbers or texts."""

MOST_CATEGORIES = 30
"""Of a column; the rarer ones have no column of their own."""
MOST_ITEMS = 400
MIN_SESSIONS = 5
"""Items in fewer training sessions are left out."""
TIMES = 8
"""Columns before those of items."""

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_THURSDAY = 4
"""1970-01-01 was one: days since then, plus this, modulo 7 are 0 on Sundays and 6 on Saturdays."""


@dataclass(frozen=True, slots=True)
class FeatureEncoding:
    numbers: tuple[str, ...]
    marked: tuple[str, ...]
    """Of these numbers some were missing, which gets a column of its own."""
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def fit(cls, columns: Columns, rows: Sequence[int]) -> Self:
        numbers, marked, categories = [], [], {}
        for name, values in columns.items():
            seen = [values[row] for row in rows if values[row] is not None]
            if any(isinstance(value, str) for value in values):
                common = Counter(map(str, seen)).most_common()
                kept = sorted(common, key=lambda item: (-item[1], item[0]))[:MOST_CATEGORIES]
                categories[name] = tuple(category for category, _ in kept)
            else:
                numbers.append(name)
                if len(seen) < len(rows):
                    marked.append(name)
        return cls(tuple(numbers), tuple(marked), categories)

    def encode(self, columns: Columns) -> Float64:
        """[N, F]; NaN where a number is missing. Raises KeyError for a column that isn't there."""
        parts = [
            np.array([np.nan if value is None else value for value in columns[name]], dtype=np.float64)
            for name in self.numbers
        ]
        parts += [np.array([float(value is None) for value in columns[name]]) for name in self.marked]
        parts += [
            np.array([float(value == category) for value in columns[name]])
            for name, categories in self.categories.items()
            for category in categories
        ]
        rows = len(next(iter(columns.values())))
        return np.stack(parts, axis=1) if parts else np.zeros((rows, 0))


@dataclass(frozen=True, slots=True)
class ClickEncoding:
    items: tuple[str, ...]
    """The most frequent first."""

    @classmethod
    def fit(cls, sessions: Sequence[Session]) -> Self:
        counts = Counter(item for session in sessions for item in set(_items(session)))
        frequent = [(count, item) for item, count in counts.items() if count >= MIN_SESSIONS]
        kept = sorted(frequent, key=lambda each: (-each[0], each[1]))[:MOST_ITEMS]
        return cls(tuple(item for _, item in kept))

    def encode(self, sessions: Sequence[Session], at: Int64) -> Float64:
        """[N, TIMES + items]: times, then log(1 + count). `at` [N]: the row's own time, ms UTC."""
        place = {item: TIMES + number for number, item in enumerate(self.items)}
        encoded = np.zeros((len(sessions), TIMES + len(place)))
        for row, session in enumerate(sessions):
            for item in _items(session):
                column = place.get(item)
                if column is not None:
                    encoded[row, column] += 1.0
        np.log1p(encoded, out=encoded)
        encoded[:, :TIMES] = np.array(
            [_times(session, int(now)) for session, now in zip(sessions, at, strict=True)]
        ).reshape(len(sessions), TIMES)
        return encoded


def _times(session: Session, now: int) -> tuple[float, ...]:
    lasted_s = (session.ended_at - session.started_at) / 1_000.0
    hour = session.started_at % _DAY_MS / _DAY_MS * 2.0 * np.pi
    weekday = (session.started_at // _DAY_MS + _THURSDAY) % 7
    waits = [click.dwell_ms / 1_000.0 for click in session.clicks if click.dwell_ms is not None]
    return (
        np.log1p(lasted_s),
        np.log1p(lasted_s / max(session.event_count - 1, 1)),
        np.log1p(float(session.event_count)),
        np.log1p(max(waits, default=0.0)),
        np.log1p(max(now - session.closed_at, 0) / _HOUR_MS),
        np.sin(hour),
        np.cos(hour),
        float(weekday in (0, 6)),
    )


def _items(session: Session) -> Iterator[str]:
    pages = [_page(click) for click in session.clicks]
    yield from (f"page {page}" for page in pages)
    yield from (f"pair {one} > {other}" for one, other in pairwise(pages))
    if pages:
        yield f"first {pages[0]}"
        yield f"last {pages[-1]}"
        yield f"last two {' > '.join(pages[-2:])}"
        yield f"device {session.clicks[0].device}"
        yield f"referrer {session.clicks[0].referrer}"
    for click in session.clicks:
        yield f"event {click.event_type}"
        if click.page_type is not None:
            yield f"type {click.page_type}"
        if click.category is not None:
            yield f"category {click.category}"
        if click.product_id is not None:
            yield f"product {click.product_id}"
        for word in (click.search_query or "").lower().split():
            yield f"word {word}"


def _page(click: Click) -> str:
    return click.path or click.page_type or click.event_type
