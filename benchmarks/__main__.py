"""`python -m benchmarks`: runs the benchmarks; the last line on standard output is one JSON object."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import orjson

from benchmarks.pairs import Comparison, table
from benchmarks.stages import STAGES
from benchmarks.throughput import YARDSTICKS, measure


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="throughput only, fewer clicks")
    parser.add_argument("--clicks", type=int, help="default 1,000,000; quick: 300,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=YARDSTICKS, action="append", help="one program; may be repeated")
    options = parser.parse_args()
    clicks = options.clicks or (300_000 if options.quick else 1_000_000)
    programs = options.only or (reversed(STAGES) if options.quick else YARDSTICKS)
    compared = measure(clicks, options.rounds, programs)
    print(table(compared))
    print(orjson.dumps(_flat(compared)).decode())


def _flat(compared: dict[str, Comparison]) -> dict[str, object]:
    ratios = {f"{name}_cpu_vs_{YARDSTICKS[name]}": round(c.cpu_ratio, 3) for name, c in compared.items()}
    details = {
        name: {key: round(value, 3) for key, value in asdict(comparison).items()}
        for name, comparison in compared.items()
    }
    return {**ratios, "details": details}


if __name__ == "__main__":
    main()
