"""The faults in short doses. `make chaos` plays all of them, in full doses."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafka
from tests.chaos.faults import FAULTS, Environment, Fault

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(2**31))
SHORT = {name: fault for name, fault in FAULTS.items() if fault.in_suite}


def play(fault: Fault, environment: Environment) -> None:
    print(f"CHAOS_SEED={SEED}")
    with environment:
        outcome = fault.play(environment, SEED, "short")
    assert outcome.faults.total() > 0
    assert outcome.kept, outcome


@pytest.mark.parametrize("name", [name for name, fault in SHORT.items() if not fault.on_cluster])
def test_promises_hold_under(name: str, tmp_path: Path, kafka: EmbeddedKafka) -> None:
    play(SHORT[name], Environment(tmp_path, kafka))


@pytest.mark.parametrize("name", [name for name, fault in SHORT.items() if fault.on_cluster])
def test_promises_hold_on_three_brokers_under(name: str, tmp_path: Path, cluster: EmbeddedCluster) -> None:
    play(SHORT[name], Environment(tmp_path, cluster=cluster))
