"""What the identity stages cost a worker: the same backlog with and without them, in turn.

All clicks of a quarter of the visitors have a customer's id. The worker drains: it ends once both stages have
read everything. Provisional records at login are off, for a backlog has no moment of login.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backlog import Backlog
from benchmarks.pairs import Spread, spread
from benchmarks.throughput import Bench
from streamer.kafka.embedded import EmbeddedKafka

PROGRAM = "with_model"
ONE_IN = 4
_VISITOR = b'"visitor_id":"v'


@dataclass(frozen=True)
class IdentityCost:
    with_model_us: Spread
    """CPU of a session without identity: everything from its clicks to its records."""
    identity_us: Spread
    """CPU of a session more with it: both stages, their transport and their commits."""
    ratio: Spread


def measure(clicks: int, rounds: int) -> IdentityCost:
    """In pairs of runs, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        bench = Bench(Backlog(kafka, clicks, form=named))
        ways = ({"identity__enabled": False}, {"identity__enabled": True, "emit__on_login": False})
        start_up = [bench.run(PROGRAM, bench.backlog.empty, **way) for way in ways]
        pairs = []
        for _ in range(rounds):
            without, with_identity = (
                bench.run(PROGRAM, bench.backlog.full, **way).less(nothing).cpu_s / bench.backlog.sessions
                for way, nothing in zip(ways, start_up, strict=True)
            )
            pairs.append((without * 1e6, (with_identity - without) * 1e6))
            print(f"{pairs[-1][0]:.1f} us a session, {pairs[-1][1]:.1f} us more", file=sys.stderr)
    return IdentityCost(
        with_model_us=spread(without for without, _ in pairs),
        identity_us=spread(more for _, more in pairs),
        ratio=spread(more / without for without, more in pairs),
    )


def named(click: bytes) -> bytes:
    """The click of a visitor in four with a customer's id; every other as it is."""
    _, is_visitor, rest = click.partition(_VISITOR)
    number = rest.partition(b'"')[0]
    if is_visitor and int(number) % ONE_IN == 0:
        return b'%s,"user_id":"c%s"}' % (click[:-1], number)
    return click
