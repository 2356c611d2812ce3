"""Have outcomes moved between two periods, or what sessions say of them?

Two questions, for what a bundle's profile can't show. *Rates*: does an outcome follow a session more or less
often than before? *Calibration*: probabilities of outcomes that a head learnt from the period before, claimed
of visitors that it never saw: are they still right? The ratio of what was claimed to what came true is the
calibration in the large (Van Calster and others 2019, BMC Medicine 17, 230); the calibration error shows what
that averages out. A change counts as moved if its whole interval, over visitors, is as far from none as
MOVED. N sessions, D numbers a vector, P outcomes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from streamer.models.arrays import Bool, Float64
from streamer.models.drift import DRAWS, verdict
from streamer.models.evaluation.bootstrap import (
    Estimate,
    Resampled,
    cluster_numbers,
    interval,
    relative_change,
    resample,
)
from streamer.models.evaluation.heads import fit_label_head
from streamer.models.evaluation.metrics import Measured, calibration_error, reliability
from streamer.models.evaluation.probe.rows import KnownSessions, Outcome
from streamer.models.evaluation.protocol import fitting_parts
from streamer.models.evaluation.splits import FEWEST_ROWS, split_by_visitor
from streamer.models.evaluation.task_rows import CONVERSION_DAYS, DAY_MS

MOST_OUTCOMES = 20
"""The commonest; others are left out."""
_WITHIN_MS = CONVERSION_DAYS * DAY_MS


class Observed(NamedTuple):
    """Sessions of one period, and what followed each within CONVERSION_DAYS."""

    visitor_ids: Sequence[str]
    vectors: Float64
    """[N, D]"""
    happened: Float64
    """[N, P] of 0 and 1"""


def outcome_drift(
    before: KnownSessions, after: KnownSessions, outcomes: Sequence[Outcome], rng: np.random.Generator
) -> dict[str, Any]:
    """By outcome, with verdicts as those of a profile's parts; or why nothing can be measured.

    Sessions closed less than CONVERSION_DAYS before the last outcome are left out: what follows them isn't
    known yet. At least one outcome.
    """
    names = [name for name, _ in Counter(each.name for each in outcomes).most_common(MOST_OUTCOMES)]
    first, later = (_observed(period, outcomes, names) for period in (before, after))
    skipped = _too_few(first, later)
    if skipped:
        return {"skipped": skipped}
    return {
        "within_days": CONVERSION_DAYS,
        "sessions": {"before": len(first.visitor_ids), "after": len(later.visitor_ids)},
        "rates": _rates(first, later, names, rng),
        **_calibration(first, later, names, rng),
    }


def _observed(known: KnownSessions, outcomes: Sequence[Outcome], names: Sequence[str]) -> Observed:
    place = {name: index for index, name in enumerate(names)}
    of_visitor: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.name in place:
            of_visitor[outcome.owner].append((outcome.at, place[outcome.name]))
    known_until = max(outcome.at for outcome in outcomes) - _WITHIN_MS
    rows = np.flatnonzero(known.closed.closed_at <= known_until)
    happened = np.zeros((len(rows), len(names)))
    visitor_ids = [known.closed.visitor_ids[row] for row in rows.tolist()]
    for index, (visitor, closed) in enumerate(
        zip(visitor_ids, known.closed.closed_at[rows].tolist(), strict=True)
    ):
        for at, outcome_place in of_visitor.get(visitor, ()):
            if closed < at <= closed + _WITHIN_MS:
                happened[index, outcome_place] = 1.0
    return Observed(visitor_ids, known.embeddings[rows], happened)


def _too_few(first: Observed, later: Observed) -> str | None:
    split, tested = split_by_visitor(first.visitor_ids), split_by_visitor(later.visitor_ids).test
    counts = {
        "sessions before to learn from": len(split.train),
        "sessions before to validate on": len(split.validation),
        "sessions before to test on": len(split.test),
        "sessions after to test on": len(tested),
    }
    for what, count in counts.items():
        if count < FEWEST_ROWS:
            return (
                f"{count} {what}, expected at least {FEWEST_ROWS} that closed {CONVERSION_DAYS} days before"
                " the last outcome"
            )
    return None


def _rates(
    first: Observed, later: Observed, names: Sequence[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Sessions that an outcome follows, over all."""
    happened = np.concatenate([first.happened, later.happened])
    ones = np.ones(len(happened))
    measured = {
        name: Measured(np.stack([happened[:, index], ones], axis=1), _ratio, "higher")
        for index, name in enumerate(names)
    }
    return _compared(measured, first, later, rng)


def _calibration(
    first: Observed, later: Observed, names: Sequence[str], rng: np.random.Generator
) -> dict[str, Any]:
    split = split_by_visitor(first.visitor_ids)
    head = fit_label_head(*fitting_parts(split, first.vectors, first.happened))
    one, other = (
        _rows(period, tested)
        for period, tested in ((first, split.test), (later, split_by_visitor(later.visitor_ids).test))
    )
    claims = [head.probabilities(period.vectors) for period in (one, other)]
    claimed, happened = np.concatenate(claims), np.concatenate([one.happened, other.happened])
    ratios = {
        name: Measured(np.stack([claimed[:, index], happened[:, index]], axis=1), _ratio, "lower")
        for index, name in enumerate(names)
    }
    return {
        "tested": {"before": len(one.visitor_ids), "after": len(other.visitor_ids)},
        "claimed_over_true": _compared(ratios, one, other, rng),
        "ece": _errors(claimed, happened, one, other, rng),
        "reliability": {
            side: reliability(claim.ravel(), period.happened.ravel())
            for side, claim, period in zip(("before", "after"), claims, (one, other), strict=True)
        },
    }


def _errors(
    claimed: Float64, happened: Float64, one: Observed, other: Observed, rng: np.random.Generator
) -> dict[str, Any]:
    """The calibration error over all outcomes. It is as small as outcomes are rare, so what it has risen by
    is judged as a share of the rate at which they follow sessions now."""
    by_outcome = [calibration_error(claimed[:, i], happened[:, i]) for i in range(happened.shape[1])]
    numbers: Float64 = np.sum([each.numbers for each in by_outcome], axis=0)
    rates = np.stack([happened.sum(1), np.full(len(happened), float(happened.shape[1]))], axis=1)
    measured = {
        "ece": Measured(numbers, by_outcome[0].formula, "lower"),
        "rate": Measured(rates, _ratio, "higher"),
    }
    sides = _resampled(measured, one, other, rng)
    before, after, rate = sides["before"]["ece"], sides["after"]["ece"], sides["after"]["rate"]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = interval(
            float(np.float64(after.value - before.value) / np.float64(rate.value)),
            (after.draws - before.draws) / rate.draws,
        )
    return {
        "before": _as_dict(before.estimate()),
        "after": _as_dict(after.estimate()),
        "rise_over_rate": _as_dict(rise),
        "verdict": verdict(max(0.0, rise.low)) if np.isfinite(rise.low) else verdict(0.0),
    }


def _rows(period: Observed, rows: Any) -> Observed:
    visitor_ids = [period.visitor_ids[row] for row in rows.tolist()]
    return Observed(visitor_ids, period.vectors[rows], period.happened[rows])


def _resampled(
    measured: dict[str, Measured], first: Observed, later: Observed, rng: np.random.Generator
) -> dict[str, dict[str, Resampled]]:
    """By period; each metric is of the rows of both periods, one after the other. A visitor of both is drawn
    for both."""
    clusters = cluster_numbers([*first.visitor_ids, *later.visitor_ids])
    is_before = np.arange(len(clusters)) < len(first.visitor_ids)
    both = {
        (side, name): _only(each, rows)
        for side, rows in (("before", is_before), ("after", ~is_before))
        for name, each in measured.items()
    }
    flat = resample({f"{side} {name}": each for (side, name), each in both.items()}, clusters, rng, DRAWS)
    return {side: {name: flat[f"{side} {name}"] for name in measured} for side in ("before", "after")}


def _only(measured: Measured, rows: Bool) -> Measured:
    """The metric of these rows [B] alone."""
    return Measured(measured.numbers * rows[:, None], measured.formula, measured.better)


def _compared(
    measured: dict[str, Measured], first: Observed, later: Observed, rng: np.random.Generator
) -> list[dict[str, Any]]:
    sides = _resampled(measured, first, later, rng)
    found = []
    for name in measured:
        change = relative_change(sides["after"][name], sides["before"][name])
        found.append(
            {
                "outcome": name,
                "before": _as_dict(sides["before"][name].estimate()),
                "after": _as_dict(sides["after"][name].estimate()),
                "change": _as_dict(change),
                "verdict": verdict(_at_least(change)),
            }
        )
    return found


def _at_least(change: Estimate) -> float:
    """How far from none a change is at least; 0 if its interval has none in it, or doesn't exist."""
    if not change.low * change.high > 0:
        return 0.0
    return min(abs(change.low), abs(change.high))


def _as_dict(estimate: Estimate) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in estimate.as_dict().items()}


def _ratio(sums: Float64) -> Float64:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Float64 = sums[..., 0] / sums[..., 1]
    return ratio
