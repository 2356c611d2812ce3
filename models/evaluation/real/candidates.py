"""trivago: which of the hotels shown is clicked out to. Rows, and what is known of each hotel shown by then.

Rules: a row knows the clicks of its session before the click-out and nothing after; popularity counts the
click-outs of earlier moments, never its own. N rows, K places shown at most, F features.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.evaluation.features import Floats
from models.evaluation.real.clickstreams import Event, click_of, read
from models.evaluation.splits import Ints
from models.evaluation.world import Bools
from schemas.click import Click

SHOWN = 25
_INTERACTIONS = (
    "interaction item image",
    "interaction item info",
    "interaction item rating",
    "interaction item deals",
    "clickout item",
    "search for item",
)
_FAR = 30.0
"""Stands for "never" where a distance in clicks or places is a feature."""
FEATURES = (
    "place",
    "places_shown",
    "price",
    "price_to_mean",
    "price_rank",
    "is_last",
    "clicks_since",
    "seconds_since",
    *_INTERACTIONS,
    "order_of_first",
    "places_after_last",
    "kinds_touched",
    "popularity",
    "shown_rate",
    "clicks_before",
    "clickouts_before",
    "sorted_by_price",
)


@dataclass(frozen=True)
class Ranking:
    """N click-outs in order of time."""

    visitor_ids: tuple[str, ...]
    at: Ints
    shown: tuple[tuple[str, ...], ...]
    clicked: Ints
    """[N]: its place among those shown; -1 where it wasn't shown"""
    before: tuple[tuple[Click, ...], ...]
    """[N]: the clicks of the session before"""
    features: Floats
    """[N, K, F]; 0 where there is no hotel"""

    @property
    def exists(self) -> Bools:
        """[N, K]"""
        counts = np.array([len(shown) for shown in self.shown])
        exists: Bools = np.arange(SHOWN) < counts[:, None]
        return exists


def load(folder: Path) -> Ranking:
    sessions = _clicks_by_session(folder)
    rows = sorted(read(folder, "trivago.ranking"), key=lambda row: (row["timestamp"], row["event_id"]))
    clicked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    uncounted: list[Event] = []
    before, features = [], np.zeros((len(rows), SHOWN, len(FEATURES)))
    for number, row in enumerate(rows):
        if uncounted and uncounted[0]["timestamp"] < row["timestamp"]:
            clicked.update(each["clicked_item"] for each in uncounted)
            for each in uncounted:
                seen.update(each["impressions"])
            uncounted = []
        uncounted.append(row)
        step = _step(row["event_id"])
        known = tuple(click for at, click in sessions[row["source_session_id"]] if at < step)
        before.append(known)
        told = _candidates(row["impressions"], row["prices"], known, row["timestamp"], clicked, seen)
        features[number, : len(told)] = told
    return Ranking(
        visitor_ids=tuple(row["visitor_id"] for row in rows),
        at=np.array([row["timestamp"] for row in rows], dtype=np.int64),
        shown=tuple(tuple(row["impressions"][:SHOWN]) for row in rows),
        clicked=np.array([_place(row["clicked_item"], row["impressions"]) for row in rows], dtype=np.int64),
        before=tuple(before),
        features=features,
    )


def second_half_begins(at: Ints) -> int:
    return int(np.sort(at)[len(at) // 2])


def _clicks_by_session(folder: Path) -> dict[str, list[tuple[int, Click]]]:
    """In order of the source's steps."""
    found: dict[str, list[tuple[int, Click]]] = defaultdict(list)
    for event in read(folder, "trivago.events"):
        session = event["event_id"].removeprefix("trv-").split("-")[0]
        found[session].append((_step(event["event_id"]), click_of(event)))
    for clicks in found.values():
        clicks.sort(key=lambda each: each[0])
    return found


def _step(event_id: str) -> int:
    """Of `trv-<session>-<step>` and, where the source repeats a step, `trv-<session>-<step>-<n>`."""
    return int(event_id.split("-")[2])


def _place(item: str, shown: Sequence[str]) -> int:
    return shown.index(item) if item in shown[:SHOWN] else -1


def _candidates(
    shown: Sequence[str],
    prices: Sequence[float],
    before: Sequence[Click],
    at: int,
    clicked: Counter[str],
    seen: Counter[str],
) -> Floats:
    """[places shown, F], in the order of FEATURES."""
    shown, price = shown[:SHOWN], np.array(prices[:SHOWN])
    touched = [(number, click) for number, click in enumerate(before) if click.product_id in set(shown)]
    last = touched[-1][1].product_id if touched else None
    last_place = shown.index(last) if last is not None else None
    first_seen = {item: place for place, item in enumerate(dict.fromkeys(c.product_id for _, c in touched))}
    by_item: dict[str, list[tuple[int, Click]]] = defaultdict(list)
    for number, click in touched:
        by_item[str(click.product_id)].append((number, click))
    ranks = price.argsort(kind="stable").argsort(kind="stable")
    sorted_by_price = float(any(c.element and "rice" in c.element for c in before))
    clickouts = float(sum(c.element == "clickout item" for c in before))
    rows = []
    for place, item in enumerate(shown):
        own = by_item.get(item, [])
        kinds = Counter(click.element for _, click in own)
        rows.append(
            [
                float(place),
                float(len(shown)),
                float(np.log1p(price[place])),
                float(price[place] / max(1.0, price.mean())),
                float(ranks[place]),
                float(item == last),
                float(len(before) - own[-1][0]) if own else _FAR,
                float(np.log1p(max(0, at - own[-1][1].timestamp) / 1000)) if own else _FAR,
                *(float(kinds[kind]) for kind in _INTERACTIONS),
                float(first_seen.get(item, _FAR)),
                float(place - last_place) if last_place is not None else _FAR,
                float(len(first_seen)),
                float(np.log1p(clicked[item])),
                (clicked[item] + 0.5) / (seen[item] + 10.0),
                float(np.log1p(len(before))),
                clickouts,
                sorted_by_price,
            ]
        )
    return np.array(rows)
