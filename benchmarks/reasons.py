"""`python -m benchmarks.reasons`: what `emit.reasons` costs.

- The worker's own pipeline with and without, in turn in each round: decode, sessions, scoring, writing
  records; without broker and changelog. Simulated visitors of a bank, whom the shipped model has never seen.
- Reasons of a session beside scoring it, by its number of clicks; alone, and among as many as it.

CPU time; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import orjson

from benchmarks.clicks import Arrival
from benchmarks.early import Pipeline, arrivals
from streamer import sample
from streamer.core.rules import SessionRules
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.leave_out import Labelled, reasons
from streamer.models.scorer import Scorer
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import KEPT_CLICKS, Click, Session

LENGTHS = (2, 6, 8, 16, 32, KEPT_CLICKS)
"""6: of the median session."""
TOGETHER = 64


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reasons", description=__doc__)
    parser.add_argument("--visitors", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = {
        "pipeline": pipeline(arrivals(options.visitors), options.rounds),
        "by_length": by_length(options.rounds),
    }
    print(orjson.dumps(found).decode())


def pipeline(log: Sequence[Arrival], rounds: int) -> dict[str, Any]:
    """Of a round with reasons beside the same round without."""
    silent, told = Pipeline(), Pipeline(reasons=True)
    sessions = sum(each.is_final for each in silent.run(log, 0))
    pairs = [(silent.cpu_s(log, 0), told.cpu_s(log, 0)) for _ in range(rounds)]
    ratios = sorted(with_them / without for without, with_them in pairs)
    return {
        "clicks": len(log),
        "sessions": sessions,
        "us_a_click": _us(median(without for without, _ in pairs), len(log)),
        "us_a_click_with_reasons": _us(median(with_them for _, with_them in pairs), len(log)),
        "us_a_session_more": _us(median(b - a for a, b in pairs), sessions),
        "ratio": [round(each, 2) for each in (median(ratios), ratios[0], ratios[-1])],
    }


def by_length(rounds: int) -> list[dict[str, Any]]:
    """Of sessions of so many clicks: scoring one, its reasons besides, and how many scorings these are."""
    bundle = load_bundle(default_bundle())
    scorer = Scorer(bundle)
    clicks = [
        click for each in sessions_of_file(sample.path(), SessionRules()).sessions for click in each.clicks
    ]
    rows = []
    for length in LENGTHS:
        for count in (1, TOGETHER):
            sessions = [_session(clicks[at : at + length]) for at in range(0, 7 * count, 7)]
            labelled = [Labelled(each, 0, 0.5) for each in sessions]
            scoring = _cpu_s(lambda some=sessions: scorer.score(some), rounds)  # type: ignore[misc]
            telling = _cpu_s(lambda some=labelled: reasons(bundle, some), rounds)  # type: ignore[misc]
            rows.append(
                {
                    "clicks": length,
                    "together": count,
                    "score_us": _us(scoring, count),
                    "reasons_us": _us(telling, count),
                    "scorings": round(telling / scoring, 1),
                }
            )
    return rows


def _session(clicks: Sequence[Click]) -> Session:
    """Of clicks five seconds apart."""
    first = clicks[0].timestamp
    spaced = [replace(click, timestamp=first + 5000 * at) for at, click in enumerate(clicks)]
    last = spaced[-1].timestamp
    return Session("0" * 32, "v", None, first, last, last, len(spaced), "gap", False, spaced)


def _cpu_s(act: Callable[[], object], rounds: int) -> float:
    """Median over the rounds, after one that warms up."""
    act()
    took = []
    for _ in range(4 * rounds):
        began = time.process_time()
        act()
        took.append(time.process_time() - began)
    return median(took)


def _us(seconds: float, count: int) -> float:
    return round(seconds * 1e6 / count, 1)


if __name__ == "__main__":
    main()
