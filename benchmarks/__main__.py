"""`python -m benchmarks`: runs the benchmarks; the last line on standard output is one JSON object."""

from __future__ import annotations

import argparse

import orjson

from benchmarks.throughput import measure


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--clicks", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(orjson.dumps(measure(options.clicks, options.rounds)).decode())


if __name__ == "__main__":
    main()
