"""The faults in short doses. `make chaos` plays all of them, in full doses."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafka
from tests.chaos.faults import FAULTS, Environment

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(2**31))
SHORT = [name for name, fault in FAULTS.items() if fault.in_suite]


@pytest.fixture
def environment(tmp_path: Path, kafka: EmbeddedKafka, cluster: EmbeddedCluster) -> Iterator[Environment]:
    with Environment(tmp_path, kafka, cluster) as played_on:
        yield played_on


@pytest.mark.parametrize("name", SHORT)
def test_promises_hold_under(name: str, environment: Environment) -> None:
    print(f"CHAOS_SEED={SEED}")
    outcome = FAULTS[name].play(environment, SEED, "short")
    assert outcome.faults.total() > 0
    assert outcome.kept, outcome
