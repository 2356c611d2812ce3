"""What a bank's app knows without the web: age, years as a customer, device, holdings, earlier tile clicks.

Rule: only what happened strictly before the decision goes in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

import numpy as np

from models.evaluation.features import NEVER, FeatureTable, Floats
from models.evaluation.rows import Decisions, Outcomes, Record
from models.evaluation.splits import Ints

_AGES = (25, 30, 35, 42, 50, 60, 67)
_DEVICES = ("desktop", "mobile", "tablet")


def app_only(outcomes: Outcomes, decisions: Decisions) -> FeatureTable:
    """[N, F]"""
    history = _History(outcomes)
    static = np.array([_static(user) for user in outcomes.users])[decisions.user]
    rows = [
        history.at(user, at) for user, at in zip(decisions.user.tolist(), decisions.at.tolist(), strict=True)
    ]
    counts = np.array([counts for counts, _ in rows]).reshape(len(rows), history.width)
    known_at: Ints = np.array([known_at for _, known_at in rows], dtype=np.int64)
    return FeatureTable("app_only", np.concatenate([static, counts], axis=1), known_at)


def _static(user: Record) -> list[float]:
    ages = [float(user["age"] >= age) for age in _AGES]
    devices = [float(user["device"] == device) for device in _DEVICES]
    return [*ages, *devices, float(np.log1p(user["tenure_months"]))]


class _History:
    """What each user held and clicked by any moment."""

    def __init__(self, outcomes: Outcomes) -> None:
        products = {product: index for index, product in enumerate(outcomes.products())}
        tiles = {tile: len(products) + index for index, tile in enumerate(outcomes.tiles())}
        self._visits = len(products) + len(tiles)
        self.width = self._visits + 1
        place = {user["user_id"]: index for index, user in enumerate(outcomes.users)}
        self._events: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for index, user in enumerate(outcomes.users):
            self._events[index] += [(NEVER, products[product]) for product in user["holdings"]]
        for row in outcomes.conversions:
            self._events[place[row["user_id"]]].append((row["time"], products[row["product"]]))
        for row in outcomes.impressions:
            self._events[place[row["user_id"]]].append((row["time"], self._visits))
            if row["clicked"] is not None:
                self._events[place[row["user_id"]]].append((row["time"], tiles[row["clicked"]]))
        for events in self._events.values():
            events.sort()

    def at(self, user: int, at: int) -> tuple[Floats, int]:
        """log(1 + count) of each kind of event before `at`, and when the last of them happened."""
        events = self._events[user]
        before = bisect_left(events, (at, -1))
        counts = np.bincount([kind for _, kind in events[:before]], minlength=self.width)
        return np.log1p(counts.astype(np.float64)), events[before - 1][0] if before else NEVER
