"""All bad clicks among real ones: the real ones' sessions come out as without them, and the counts add up."""

from __future__ import annotations

import gzip
import itertools
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition
from streamer.schemas.click import Session
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS
from tests.pipeline.test_partition import Arrived

SAMPLE = Path(__file__).parents[1] / "streamer/sample/clicks.jsonl.gz"
REAL = Path(os.environ.get("CLICKS_DATA", "clicks-data-is-not-here")) / "shop1999.events.jsonl.gz"
FILES = [
    pytest.param(SAMPLE, id="sample"),
    pytest.param(REAL, id="shop1999", marks=pytest.mark.skipif(not REAL.exists(), reason="no CLICKS_DATA")),
]
BAD = [each for each in BAD_CLICKS if each.stage != "ok"]
"""Sound ones among them, with a time of today, would rightly make the clicks after them late."""


def run(values: Sequence[bytes | None]) -> tuple[list[Session], Partition, list[str]]:
    decode = ClickDecoder("auto", 262_144).decode
    partition = Partition("clicks", 0, Sessionizer(SessionRules(), idle_closing=False), decode)
    keys = itertools.cycle([None, b"", b"k", b"\xff" * 100_000])
    records = [Arrived(offset, value, ARRIVAL_MS, next(keys)) for offset, value in enumerate(values)]
    sessions, reasons, index = [], [], 0
    while index < len(records) or partition.is_full:
        index = partition.process(records, index)
        taken = partition.take()
        sessions += taken.sessions
        reasons += [dead.reason for dead in taken.dead]
        partition.resume_closing()
    while not partition.drain():
        sessions += partition.take().sessions
    return sessions + partition.take().sessions, partition, reasons


@pytest.mark.parametrize("file", FILES)
def test_bad_clicks_change_nothing_but_the_counts(file: Path) -> None:
    with gzip.open(file) as lines:
        real: list[bytes | None] = [line.rstrip() for line in lines]
    chance = random.Random(3)
    mixed = [(place, value) for place, value in enumerate(real)]
    mixed += [(chance.randrange(len(real)), bad.value) for bad in BAD for _ in range(3)]
    mixed.sort(key=lambda each: each[0])
    alone, partition, _ = run(real)
    among, spoilt, reasons = run([value for _, value in mixed])
    assert among == alone
    filtered = sum(bad.stage == "filtered" for bad in BAD)
    assert sorted(reasons) == sorted(3 * [bad.reason for bad in BAD if bad.stage != "filtered"])
    before, after = partition.counters, spoilt.counters
    assert after.received == before.received + 3 * len(BAD)
    assert after.filtered == before.filtered + 3 * filtered
    assert after.dead_lettered == before.dead_lettered + 3 * (len(BAD) - filtered)
    assert (after.closed, after.late, after.duplicates, after.open()) == (
        *(before.closed, before.late, before.duplicates),
        0,
    )
