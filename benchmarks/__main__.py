"""`python -m benchmarks`: runs the benchmarks; the last line on standard output is one JSON object."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson

from benchmarks import scoring, start_up, throughput
from benchmarks.pairs import table
from benchmarks.stages import STAGES
from benchmarks.throughput import YARDSTICKS


def main() -> None:
    """Parse the options, measure, print."""
    options = _options()
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "throughput": _throughput,
        "scoring": lambda _: asdict(scoring.measure(sessions=20_000, repeats=500)),
        "start_up": lambda given: asdict(start_up.measure(given.rounds)),
    }
    chosen = options.only or (["throughput"] if options.quick else list(parts))
    found = {part: parts[part](options) for part in chosen}
    for part, figures in found.items():
        if part != "throughput":
            print(f"\n{part}", *(f"  {name:20} {value}" for name, value in figures.items()), sep="\n")
    ratios = {
        f"{name}_cpu_vs_{YARDSTICKS[name]}": of["cpu_ratio"]
        for name, of in found.get("throughput", {}).items()
    }
    print(orjson.dumps({**ratios, **found}).decode())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="throughput of the worker only, fewer clicks")
    parser.add_argument("--only", choices=["throughput", "scoring", "start_up"], action="append")
    parser.add_argument("--clicks", type=int, help="default 1,000,000; quick: 300,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--program", choices=YARDSTICKS, action="append", help="throughput of this; may be repeated"
    )
    return parser.parse_args()


def _throughput(options: argparse.Namespace) -> dict[str, Any]:
    clicks = options.clicks or (300_000 if options.quick else 1_000_000)
    programs = options.program or (STAGES if options.quick else YARDSTICKS)
    compared = throughput.measure(clicks, options.rounds, programs)
    print(table(compared))
    return {
        name: {key: round(value, 3) for key, value in asdict(of).items()} for name, of in compared.items()
    }


if __name__ == "__main__":
    main()
