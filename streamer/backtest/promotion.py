"""May a candidate take the place of the live bundle? A rule over their backtest, with stated bounds.

The candidate passes if it is *not worse*: of every metric of outcomes the 95 % interval of its change against
the live bundle, paired by visitors, excludes a loss of more than the margin (a test of non-inferiority; all
have to pass, so no correction for their number is needed). An interval that lies beyond the margin
in part decides nothing: more outcomes would. What needs no outcomes has bounds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streamer.backtest.contrast import sessions_side_by_side
from streamer.models.bundle import Manifest
from streamer.models.evaluation.bootstrap import Estimate, cluster_numbers, interval, resample
from streamer.models.evaluation.metrics import share_of
from streamer.models.visitor_splits import split_of

Json = Mapping[str, Any]
Verdict = Literal["promote", "keep", "undecided"]

MARGIN = 0.05
"""Of a metric, relative: what may be lost at most."""
MOST_UNLABELLED = 0.05
"""Of the sessions, how many more may go without a label."""
MOST_ECE = 0.05
"""Expected calibration error against the teacher's labels of validation visitors."""
FEWEST_SESSIONS = 200
"""Of test visitors, to say anything of labels."""


@dataclass(frozen=True)
class Check:
    name: str
    found: str
    bound: str
    passed: bool | None
    """None: can't be told."""


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    """`keep` the live bundle if any check failed, `undecided` if any can't be told, else `promote`."""
    checks: list[Check]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    document: Json, candidate: Manifest, unlabelled: Estimate | None, margin: float = MARGIN
) -> Judgement:
    """`document`: the backtest of two bundles, the live one first; `unlabelled`: as `more_unlabelled`."""
    checks = [
        _trained(candidate),
        _scores_all(document["contrasts"][0]["sessions"]),
        _calibrated(candidate),
        _labels(unlabelled),
        *_outcomes(document["outcomes"], margin),
    ]
    passed = [check.passed for check in checks]
    verdict: Verdict = "keep" if False in passed else "undecided" if None in passed else "promote"
    return Judgement(verdict, checks)


def more_unlabelled(rows: Path, models: Sequence[str], rng: np.random.Generator) -> Estimate | None:
    """How much larger the candidate's share of sessions without a label is than that of the live bundle,
    which is named first: of people's sessions that both scored, of test visitors, whom neither learnt from.
    None: too few sessions. Raises UsageError if the file isn't one of a replay."""
    visitors, abstained = [], []
    for sides in sessions_side_by_side(rows):
        pair = [sides.get(model) for model in models]
        live, candidate = pair
        if live is None or candidate is None or live["is_bot"] or split_of(live["visitor_id"]) != "test":
            continue
        visitors.append(live["visitor_id"])
        abstained.append((live["abstained"], candidate["abstained"]))
    if len(visitors) < FEWEST_SESSIONS:
        return None
    counts, ones = np.array(abstained, dtype=np.float64), np.ones(len(abstained))
    measured = {str(side): share_of(np.stack([counts[:, side], ones], axis=1)) for side in range(len(models))}
    drawn = resample(measured, cluster_numbers(visitors), rng)
    return interval(drawn["1"].value - drawn["0"].value, drawn["1"].draws - drawn["0"].draws)


def _trained(candidate: Manifest) -> Check:
    guards = candidate.metrics.get("pretraining", {}).get("guards", {}).get("passed")
    found = {True: "passed", False: "failed"}.get(guards, "not in the manifest")
    return Check("pretraining's guards against collapse", found, "passed", guards)


def _scores_all(sessions: Json) -> Check:
    lost = sessions["only_a"]
    return Check("sessions that only the live bundle can score", f"{lost:,}", "none", lost == 0)


def _calibrated(candidate: Manifest) -> Check:
    error = candidate.metrics.get("distillation", {}).get("ece")
    found = "not in the manifest" if error is None else f"{error:.3f}"
    bound = f"at most {MOST_ECE:g}"
    return Check("calibration error of labels", found, bound, None if error is None else error <= MOST_ECE)


def _labels(more: Estimate | None) -> Check:
    name, bound = "more sessions without a label", f"at most {MOST_UNLABELLED:+.0%} of all"
    if more is None:
        return Check(name, f"fewer than {FEWEST_SESSIONS} sessions of test visitors", bound, None)
    found = f"{more.value:+.1%} [{more.low:+.1%}, {more.high:+.1%}]"
    return Check(name, found, bound, _within(more.low, more.high, MOST_UNLABELLED))


def _outcomes(outcomes: Json | None, margin: float) -> Iterator[Check]:
    bound = f"no more than {margin:.0%} worse"
    if outcomes is None:
        yield Check("outcomes", "none given", bound, None)
        return
    for task in ("tiles", "conversions"):
        result = outcomes[task]
        if "skipped" in result:
            continue
        for metric, by_name in result["metrics"].items():
            for name, entry in by_name.items():
                if "against_first" in entry:
                    kind = name.rpartition(" ")[2]
                    yield _outcome(f"{task}, {metric.replace('_', ' ')}, {kind}", entry, bound, margin)
    skipped = [
        f"{task}: {outcomes[task]['skipped']}"
        for task in ("tiles", "conversions")
        if "skipped" in outcomes[task]
    ]
    if len(skipped) == 2:
        yield Check("outcomes", "; ".join(skipped), bound, None)


def _outcome(name: str, entry: Json, bound: str, margin: float) -> Check:
    change = entry["against_first"]
    value, low, high = change["value"], change["low"], change["high"]
    found = f"{value:+.1%} [{low:+.1%}, {high:+.1%}], {entry['better']} is better"
    worse = (low, high) if entry["better"] == "lower" else (-high, -low)
    return Check(name, found, bound, _within(*worse, margin))


def _within(low: float, high: float, most: float) -> bool | None:
    """Whether what lies in this interval is at most so much; None if the interval says both, or isn't one."""
    if high <= most:
        return True
    return False if low > most else None
