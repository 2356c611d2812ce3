"""Drift: has traffic moved away from what a bundle was trained on, or one sample of it from another?

`DriftMonitor` compares the worker's last sessions with the bundle's profile. Its window is the last one to
two blocks of sessions: whole blocks leave it at once, so it costs two arrays.

`compare` gives intervals by a bootstrap over visitors, for a visitor's sessions are alike. They are basic
intervals (twice the estimate minus the drawn quantiles), which correct the upward bias that resampling adds
to a distance: where nothing moved, an interval may lie below its estimate. A part counts as moved only if
its whole interval does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from streamer.models.arrays import Float32, Float64, Int64
from streamer.models.bundle import Bundle
from streamer.models.drift_profile import DECILES, ProfileLayout, jensen_shannon, psi, shares, unknown_shares
from streamer.models.encoded import Encoded
from streamer.models.scorer import ScoreError, Scorer
from streamer.schemas.click import Session

BLOCK = 2500
"""Sessions. With this many, an unchanged distribution over 20 categories has a PSI of about 0.01."""

MOVED, MOVED_A_LOT = 0.1, 0.25
"""Usual limits of the population stability index (Siddiqi 2006, Credit Risk Scorecards)."""
VERDICTS = ("alike", "moved", "moved a lot")
"""By level, 0 to 2."""
FEWEST_SESSIONS = 100
FEWEST_FOR_LEVELS = 500
"""An index has no interval: chance alone can give it 0.1 with fewer."""
DRAWS = 300
_CHUNK = 2000
_CHANGES = 3
_DAY_MS = 86_400_000


class DriftMonitor:
    """Pass `see` to a Scorer as `seen`. Safe to read while sessions arrive."""

    def __init__(self, layout: ProfileLayout, reference: np.ndarray, block: int = BLOCK) -> None:
        self._layout, self._reference, self._block = layout, reference, block
        self._full, self._filling = np.zeros(layout.width), np.zeros(layout.width)
        self._sessions_full = self._sessions_filling = 0

    @classmethod
    def of(cls, bundle: Bundle, block: int = BLOCK) -> Self | None:
        """None if the bundle has no profile: there is nothing to compare with."""
        profile = bundle.manifest.profile
        if profile is None:
            return None
        layout = ProfileLayout(bundle.taxonomy, profile.novelty_deciles, bundle.tokenizer.first_learnt)
        return cls(layout, layout.total(profile), block)

    def see(self, encoded: Encoded, best: Int64, novelty: Float32, reasons: Sequence[str | None]) -> None:
        self._filling = self._filling + self._layout.counted(encoded, best, novelty, reasons)
        self._sessions_filling += len(best)
        if self._sessions_filling >= self._block:
            self._full, self._sessions_full = self._filling, self._sessions_filling
            self._filling, self._sessions_filling = np.zeros(self._layout.width), 0

    @property
    def sessions(self) -> int:
        """In the window."""
        return self._sessions_full + self._sessions_filling

    def psi(self) -> dict[str, float]:
        """Of each part of the profile; empty before the first session."""
        if not self.sessions:
            return {}
        return self._layout.psi(self._reference, self._full + self._filling)

    def levels(self) -> dict[str, int]:
        """Of each part of the profile, its place among VERDICTS; empty with too few sessions to tell."""
        if self.sessions < FEWEST_FOR_LEVELS:
            return {}
        return {part: level_of(value) for part, value in self.psi().items()}

    def unknown_shares(self) -> dict[str, float]:
        """Of each learnt field: clicks in the window whose value training never learnt."""
        return unknown_shares(self._full + self._filling, self._layout.columns)


@dataclass(frozen=True)
class DayDrift:
    day: int
    """Its begin, ms UTC"""
    sessions: int
    psi: dict[str, float]
    """By part of the profile"""


@dataclass
class TrafficSample:
    """A bundle's results for some sessions, stored until the ranges of novelty are known."""

    visitors: list[str] = field(default_factory=list)
    closed_at: list[int] = field(default_factory=list)
    unscored: int = 0
    """Sessions that the bundle can't score; they are left out."""
    seen: list[tuple[Encoded, Int64, Float32, Sequence[str | None]]] = field(default_factory=list)

    @property
    def sessions(self) -> int:
        return len(self.visitors)

    def deciles(self) -> list[float]:
        """Of novelty."""
        novelty = np.concatenate([each[2] for each in self.seen]).astype(np.float64)
        edges: list[float] = np.quantile(novelty, np.arange(1, DECILES + 1) / (DECILES + 1)).tolist()
        return edges

    def by_visitor(self, layout: ProfileLayout) -> Float64:
        """[V, width]: the counts of each visitor."""
        return self._summed(layout, np.array(self.visitors))

    def by_day(self, layout: ProfileLayout, reference: Float64) -> list[DayDrift]:
        """The distance of each day (UTC) of closing from `reference` [width]; days with too few sessions to
        tell are left out."""
        days, sessions = np.unique(np.array(self.closed_at) // _DAY_MS, return_counts=True)
        totals = self._summed(layout, np.array(self.closed_at) // _DAY_MS)
        return [
            DayDrift(int(day) * _DAY_MS, int(count), _rounded(layout.psi(reference, total)))
            for day, count, total in zip(days, sessions, totals, strict=True)
            if count >= FEWEST_SESSIONS
        ]

    def _summed(self, layout: ProfileLayout, keys: np.ndarray) -> Float64:
        """[K, width]: the counts of each key, in order of the keys; `keys` [N] has one a session."""
        rows = np.concatenate([layout.counts(*each) for each in self.seen])
        found, place = np.unique(keys, return_inverse=True)
        total = np.zeros((len(found), layout.width))
        np.add.at(total, place, rows)
        return total


def traffic_sample(bundle: Bundle, sessions: Sequence[Session]) -> TrafficSample:
    """Scores the sessions of people; bots are left out, as in training."""
    sample = TrafficSample()
    people = [session for session in sessions if not session.is_bot and session.clicks]
    chunk: list[Session] = []

    def see(encoded: Encoded, best: Int64, novelty: Float32, reasons: Sequence[str | None]) -> None:
        sample.seen.append((encoded, best, novelty, reasons))
        sessions = [chunk[i] for i in encoded.rows.tolist()]
        sample.visitors += [each.visitor_id for each in sessions]
        sample.closed_at += [each.closed_at for each in sessions]

    scorer = Scorer(bundle, see)
    for at in range(0, len(people), _CHUNK):
        chunk[:] = people[at : at + _CHUNK]
        sample.unscored += sum(isinstance(each, ScoreError) for each in scorer.score(chunk))
    return sample


@dataclass(frozen=True)
class PartDrift:
    """One part of the profile: how far apart, with 95 % intervals, and what changed most."""

    part: str
    psi: float
    psi_interval: tuple[float, float]
    jensen_shannon: float
    jensen_shannon_interval: tuple[float, float]
    verdict: str
    """`alike`, `moved`, `moved a lot`"""
    changes: list[tuple[str, float, float]]
    """(category, share before, share after), the largest changes first"""


def compare(
    layout: ProfileLayout, before: Float64, after: Float64, rng: np.random.Generator, draws: int = DRAWS
) -> list[PartDrift]:
    """Counts by visitor [V, width]; a profile counts as one visitor and isn't resampled."""
    drawn = _drawn(before, rng, draws), _drawn(after, rng, draws)
    found = []
    for part, where in layout.columns.items():
        sides = before.sum(0)[where], after.sum(0)[where]
        resampled = [(a[where], b[where]) for a, b in zip(*drawn, strict=True)]
        of_psi = _estimate(psi, sides, resampled)
        of_divergence = _estimate(jensen_shannon, sides, resampled)
        changes = _changes(layout.categories[part], *sides)
        found.append(PartDrift(part, *of_psi, *of_divergence, verdict(of_psi[1][0]), changes))
    return found


def report(moved: Sequence[PartDrift], before: int, after: int) -> dict[str, Any]:
    """With the verdict over all parts; `before` and `after` are numbers of sessions."""
    worst = max(moved, key=lambda each: each.psi_interval[0])
    verdict = worst.verdict if min(before, after) >= FEWEST_SESSIONS else "too few sessions to tell"
    parts = [asdict(each) for each in moved]
    return {"verdict": verdict, "sessions": {"before": before, "after": after}, "parts": parts}


def _drawn(counts: Float64, rng: np.random.Generator, draws: int) -> Float64:
    """[draws, width]: sums over visitors drawn with replacement."""
    visitors = len(counts)
    if visitors == 1:
        return np.repeat(counts, draws, axis=0)
    return np.stack(
        [rng.multinomial(visitors, np.full(visitors, 1 / visitors)) @ counts for _ in range(draws)]
    )


def _estimate(
    distance: Callable[[Float64, Float64], float],
    sides: tuple[Float64, Float64],
    resampled: Sequence[tuple[Float64, Float64]],
) -> tuple[float, tuple[float, float]]:
    value = distance(*sides)
    low, high = np.quantile([distance(a, b) for a, b in resampled], [0.025, 0.975]).tolist()
    return round(value, 4), (round(max(0.0, 2 * value - high), 4), round(max(0.0, 2 * value - low), 4))


def level_of(psi: float) -> int:
    """Place among VERDICTS."""
    return (psi >= MOVED) + (psi >= MOVED_A_LOT)


def verdict(lowest_psi: float) -> str:
    """In words; `lowest_psi`: what the index is at least."""
    return VERDICTS[level_of(lowest_psi)]


def _rounded(by_part: dict[str, float]) -> dict[str, float]:
    return {part: round(value, 4) for part, value in by_part.items()}


def _changes(names: Sequence[str], before: Float64, after: Float64) -> list[tuple[str, float, float]]:
    p, q = shares(before), shares(after)
    order = np.argsort(-np.abs(p - q), kind="stable")[:_CHANGES].tolist()
    return [(names[i], round(float(p[i]), 4), round(float(q[i]), 4)) for i in order]
