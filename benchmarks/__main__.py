"""`python -m benchmarks`: runs the benchmarks; the last line on standard output is one JSON object."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks import (
    changelog,
    core_state,
    formats,
    hand_over,
    identity_cost,
    identity_state,
    latency,
    live_state,
    outputs,
    partitions,
    plain,
    processes,
    repartition_cost,
    replaying,
    scoring,
    serving,
    sources,
    start_up,
    throughput,
)
from benchmarks.stages import STAGES
from benchmarks.tables import lines
from benchmarks.throughput import YARDSTICKS

MILLION = 1_000_000


def fewer(given: argparse.Namespace) -> int:
    """Rounds of what takes long, or differs little between rounds."""
    return max(given.rounds - 1, 1)


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "throughput": lambda given: throughput.measure(
        given.clicks or 300_000, given.rounds, given.program or (STAGES if given.quick else YARDSTICKS)
    ),
    "plain_faust": lambda given: plain.measure(20_000, given.clicks or 300_000, fewer(given)),
    "processes": lambda given: processes.measure(given.clicks or 300_000, fewer(given)),
    "formats": lambda given: formats.measure(given.clicks or 100_000, fewer(given)),
    "sources": lambda given: sources.measure(given.rounds),
    "latency": lambda given: latency.measure(10, fewer(given)),
    "scoring": lambda _: scoring.measure(sessions=20_000, repeats=500),
    "start_up": lambda given: start_up.measure(given.rounds),
    "outputs": lambda given: outputs.measure(given.clicks or 50_000),
    "replay": lambda given: replaying.measure(given.clicks or 100_000, fewer(given)),
    "partitions": lambda _: partitions.measure(8),
    "changelog": lambda given: changelog.measure(given.sessions // 20, 200_000),
    "core_state": lambda given: core_state.measure(given.sessions, 5),
    "identity": lambda given: identity_state.measure(
        {"attribution": given.sessions, "users": given.sessions // 10}
    ),
    "identity_cost": lambda given: identity_cost.measure(given.clicks or 300_000, given.rounds),
    "repartition": lambda given: repartition_cost.measure(given.clicks or 300_000, given.rounds),
    "hand_over": lambda given: hand_over.measure(10, fewer(given)),
    "serving": lambda given: serving.measure(given.sessions, 30),
    "live_state": lambda given: live_state.measure(given.sessions, 10),
}


def main() -> None:
    """Parse the options, measure, print, keep."""
    options = _options()
    chosen = options.only or (["throughput", "sources"] if options.quick else list(PARTS))
    if not options.only and not serving.is_there():
        print(f"serving is left out: there is no {serving.LOAD} ({serving.HOW_TO_GET_IT})", file=sys.stderr)
        chosen = [part for part in chosen if part != "serving"]
    found: dict[str, Any] = {}
    for part in chosen:
        began = time.monotonic()
        found[part] = PARTS[part](options)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        print(f"\n{part}", *(f"  {line}" for line in lines(found[part])), sep="\n", flush=True)
        if options.out:
            before = orjson.loads(options.out.read_bytes()) if options.out.exists() else {}
            options.out.write_bytes(_json({**before, **rounded(found)}, orjson.OPT_INDENT_2) + b"\n")
    ratios = {
        f"{name}_cpu_vs_{YARDSTICKS[name]}": round(of.cpu_ratio, 3)
        for name, of in found.get("throughput", {}).items()
    }
    print(_json({**ratios, **rounded(found)}).decode())


def rounded(found: Any) -> Any:
    """Plain data, floats with three digits after the point."""
    plainly = orjson.loads(_json(found))
    if isinstance(plainly, dict):
        return {name: rounded(value) for name, value in plainly.items()}
    return round(plainly, 3) if isinstance(plainly, float) else plainly


def _json(found: Any, option: int = 0) -> bytes:
    return orjson.dumps(found, option=option | orjson.OPT_NON_STR_KEYS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="throughput of the worker's stages, and sources, only"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="may be repeated")
    parser.add_argument("--clicks", type=int, help="default 100,000 to 300,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=MILLION, help="open at once; of serving, customers")
    parser.add_argument(
        "--program", choices=YARDSTICKS, action="append", help="throughput of this; may be repeated"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="keep the figures; other parts in it stay"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
