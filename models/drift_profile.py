"""The profile of a bundle: counts of what its sessions look like, the reference that drift is measured from.

Every part is a distribution over few categories: the likeliest intent, abstention, novelty (by the
reference's deciles), number of clicks, and for each learnt field whether a click's value is missing, known
or unknown to the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from streamer.models.arrays import Float32, Float64, Int64
from streamer.models.encoded import LENGTH_BUCKETS, Encoded
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.taxonomy import Taxonomy
from streamer.models.vocabulary import OOV_BUCKETS

DECILES = 9
"""Edges between ten ranges of novelty."""
REASONS = ("none", "ambiguous", "novel", "too_short")
_OF_FIELD = ("missing", "known", "unknown")
_CLICKS = ("1 to 8", "9 to 16", "17 to 32", "33 or more")
_SMOOTHING = 0.5
"""Added to every count, so that a category which one side lacks isn't infinitely far away."""


class Profile(msgspec.Struct, frozen=True):
    sessions: int
    split: str
    """Which sessions: `test`, or `validation` if there were none of test."""
    novelty_deciles: list[float]
    parts: dict[str, dict[str, int]]
    """Part → category → count."""


class ProfileLayout:
    """The parts and categories of one taxonomy as columns of an array of counts."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        novelty_deciles: Sequence[float],
        first_learnt: Sequence[int] = (1 + OOV_BUCKETS,) * len(LEARNT_FIELDS),
    ) -> None:
        """`first_learnt`: ids of LEARNT_FIELDS from which on a value is known (`Tokenizer.first_learnt`)."""
        self.first_learnt = np.array(first_learnt, np.int32)
        self.novelty_edges = np.array(novelty_deciles, np.float64)
        self.categories: dict[str, tuple[str, ...]] = {
            "intent": tuple(intent.id for intent in taxonomy.intents),
            "abstention": REASONS,
            "novelty": tuple(f"decile {i + 1}" for i in range(DECILES + 1)),
            "clicks": _CLICKS,
            **dict.fromkeys(LEARNT_FIELDS, _OF_FIELD),
        }
        sizes = [len(names) for names in self.categories.values()]
        ends = np.cumsum(sizes).tolist()
        self.columns = {
            part: slice(end - size, end) for part, size, end in zip(self.categories, sizes, ends, strict=True)
        }
        self.width = ends[-1]

    def counts(
        self, encoded: Encoded, best: Int64, novelty: Float32, reasons: Sequence[str | None]
    ) -> Float32:
        """[N, width]: of each session of one length bucket; `best` [N] is its likeliest intent."""
        rows, n = np.arange(len(best)), len(best)
        found = np.zeros((n, self.width), np.float32)
        bucket = LENGTH_BUCKETS.index(encoded.event_ids.shape[1])
        of_session = {
            "intent": best,
            "abstention": np.array([REASONS.index(reason or "none") for reason in reasons]),
            "novelty": np.searchsorted(self.novelty_edges, novelty, side="right"),
            "clicks": np.full(n, bucket),
        }
        for part, category in of_session.items():
            found[rows, self.columns[part].start + category] = 1
        ids = encoded.event_ids[:, :, : len(LEARNT_FIELDS)]
        known = (ids >= self.first_learnt).sum(1)
        unknown = ((ids > 0) & (ids < self.first_learnt)).sum(1)
        missing = encoded.lengths[:, None] - known - unknown
        start = self.columns[LEARNT_FIELDS[0]].start
        found[:, start:] = np.stack([missing, known, unknown], axis=2).reshape(n, -1)
        return found

    def counted(
        self, encoded: Encoded, best: Int64, novelty: Float32, reasons: Sequence[str | None]
    ) -> Float64:
        """[width]: the sum of `counts` over the sessions, in a fifth of the time."""
        n, bucket = len(best), LENGTH_BUCKETS.index(encoded.event_ids.shape[1])
        of_reason = Counter(reasons)
        _, width, columns = encoded.event_ids.shape
        of_field = encoded.event_ids.reshape(n, -1)
        least_known = np.zeros((width, columns), np.int32)
        least_known[:, : len(LEARNT_FIELDS)] = self.first_learnt
        # The sessions' sums first: short rows are slow to add up.
        given, known = (
            (of_field >= least).sum(0).reshape(-1, columns).sum(0)[: len(LEARNT_FIELDS)]
            for least in (1, least_known.ravel())
        )
        missing = encoded.lengths.sum() - given
        edges = self.novelty_edges
        return np.concatenate(
            (
                np.bincount(best, minlength=len(self.categories["intent"])),
                [of_reason[None if name == "none" else name] for name in REASONS],
                np.bincount(np.searchsorted(edges, novelty, side="right"), minlength=len(edges) + 1),
                [n if i == bucket else 0 for i in range(len(_CLICKS))],
                np.stack((missing, known, given - known), axis=1).ravel(),
            )
        ).astype(np.float64)

    def profile(self, total: Float64, sessions: int, split: str) -> Profile:
        """`total` [width]: the sum of the sessions' counts."""
        parts = {
            part: dict(zip(names, map(round, total[self.columns[part]].tolist()), strict=True))
            for part, names in self.categories.items()
        }
        return Profile(sessions, split, [round(float(e), 4) for e in self.novelty_edges], parts)

    def total(self, profile: Profile) -> Float64:
        """[width]: the counts of a profile; raises ValueError if it has other parts or categories."""
        total = np.zeros(self.width)
        for part, names in self.categories.items():
            counts = profile.parts.get(part, {})
            if set(counts) != set(names) or min(counts.values(), default=0) < 0:
                raise ValueError(f"the profile's part {part!r} doesn't fit the taxonomy and the fields")
            total[self.columns[part]] = [counts[name] for name in names]
        return total

    def psi(self, reference: Float64, found: Float64) -> dict[str, float]:
        """Population stability index of each part: 0 alike, from 0.1 moved, from 0.25 moved a lot."""
        return {part: psi(reference[where], found[where]) for part, where in self.columns.items()}


def check_profile(profile: Profile, taxonomy: Taxonomy) -> None:
    """Raises ValueError."""
    edges = profile.novelty_deciles
    if len(edges) != DECILES or sorted(edges) != edges:
        raise ValueError(f"the profile has {len(edges)} novelty deciles, expected {DECILES} in order")
    ProfileLayout(taxonomy, edges).total(profile)


def shares(counts: Float64) -> Float64:
    """[..., C] that add up to 1, smoothed so that none is 0."""
    smoothed = counts + _SMOOTHING
    result: Float64 = smoothed / smoothed.sum(-1, keepdims=True)
    return result


def psi(a: Float64, b: Float64) -> float:
    """Of two arrays of counts [C]."""
    p, q = shares(a), shares(b)
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(a: Float64, b: Float64) -> float:
    """Divergence in bits, 0 to 1, of two arrays of counts [C]."""
    p, q = shares(a), shares(b)
    m = (p + q) / 2
    return float((p * np.log2(p / m) + q * np.log2(q / m)).sum() / 2)


def unknown_shares(total: Float64, columns: Mapping[str, slice]) -> dict[str, float]:
    """Of each learnt field: clicks with an unknown value over clicks with a value."""
    found = {}
    for field in LEARNT_FIELDS:
        _, known, unknown = total[columns[field]].tolist()
        found[field] = unknown / (known + unknown) if known + unknown else 0.0
    return found
