"""The worker with parts left out still gives every session once."""

from __future__ import annotations

import pytest

from benchmarks.backlog import Backlog
from benchmarks.throughput import Bench, WrongSessions
from streamer.kafka.embedded import EmbeddedKafka


@pytest.fixture(scope="module")
def bench(kafka: EmbeddedKafka) -> Bench:
    return Bench(Backlog(kafka, 2000, visitors=100, prefix="stages-"))


@pytest.mark.parametrize("stage", ["core", "sessionize"])
def test_a_stage_publishes_every_session_once(bench: Bench, stage: str) -> None:
    assert bench.run(stage, bench.backlog.full).cpu_s > 0


def test_a_program_that_loses_sessions_is_an_error(bench: Bench) -> None:
    with pytest.raises(WrongSessions, match="core gave 0 sessions of "):
        bench.check("core", bench.backlog.empty)
