"""What traces cost a worker: the same backlog without them and at some ratios, in turn.

    python -m benchmarks.tracing_cost [--clicks 100000] [--rounds 3]

Its clicks have no contexts; a collector beside it takes every span. The last line is a JSON object: CPU of a
session without traces, and how much more it is at each ratio, in microseconds and as a ratio.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from benchmarks.backlog import Backlog
from benchmarks.pairs import spread
from benchmarks.throughput import Bench
from streamer.kafka.embedded import EmbeddedKafka

PROGRAM = "with_model"
RATIOS = (0.0, 0.01, 1.0)
WITHOUT: dict[str, object] = {"tracing__enabled": False}


class _Collector(BaseHTTPRequestHandler):
    """Takes spans, and does nothing with them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def measure(clicks: int, rounds: int) -> dict[str, Any]:
    """Each run in a process of its own, start-up taken off."""
    collector = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
    ways = {"without": WITHOUT} | {
        f"{ratio:g}": {"tracing__enabled": True, "tracing__sample_ratio": ratio} for ratio in RATIOS
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        bench = Bench(Backlog(kafka, clicks))
        start_up = {name: bench.run(PROGRAM, bench.backlog.empty, **way) for name, way in ways.items()}
        for _ in range(rounds):
            for name, way in ways.items():
                run = bench.run(PROGRAM, bench.backlog.full, **way).less(start_up[name])
                found[name].append(run.cpu_s / bench.backlog.sessions * 1e6)
            print({name: round(each[-1], 1) for name, each in found.items()}, file=sys.stderr)
    collector.shutdown()
    without = found.pop("without")
    return {
        "without_us": spread(without),
        "more_us": {name: spread(_less(each, without)) for name, each in found.items()},
        "ratio": {
            name: spread(a / b for a, b in zip(each, without, strict=True)) for name, each in found.items()
        },
    }


def _less(some: list[float], others: list[float]) -> list[float]:
    return [a - b for a, b in zip(some, others, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clicks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(orjson.dumps(measure(given.clicks, given.rounds)).decode())


if __name__ == "__main__":
    main()
