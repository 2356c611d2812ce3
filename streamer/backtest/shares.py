"""What share of the sessions each label has, over time and by bundle."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from streamer.backtest.pairs import Sides, label_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MOST_HOURS = 72
"""A longer stretch is told by day."""


class LabelShares:
    """`add` each session, then `as_dict`. Time is `closed_at`, when the label was known."""

    def __init__(self) -> None:
        self._by_hour: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def add(self, sides: Sides) -> None:
        for model, row in sides.items():
            self._by_hour[model][row["closed_at"] // HOUR_MS][label_of(row)] += 1

    def as_dict(self) -> dict[str, Any]:
        """step_ms, and by bundle: begin of each step -> label -> sessions."""
        hours = [hour for by_hour in self._by_hour.values() for hour in by_hour]
        step = HOUR_MS if not hours or max(hours) - min(hours) < _MOST_HOURS else DAY_MS
        found: dict[str, dict[int, Counter[str]]] = {}
        for model, by_hour in self._by_hour.items():
            steps: dict[int, Counter[str]] = defaultdict(Counter)
            for hour, counts in sorted(by_hour.items()):
                steps[hour * HOUR_MS // step * step].update(counts)
            found[model] = dict(steps)
        bundles = {
            model: {str(begin): dict(counts.most_common()) for begin, counts in steps.items()}
            for model, steps in found.items()
        }
        return {"step_ms": step, "bundles": bundles}
