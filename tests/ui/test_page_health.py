"""Where the workers stand, from markers."""

from __future__ import annotations

from streamer.core.watermark import PartitionClock
from streamer.pipeline.counters import ClickCounters
from streamer.ui.health import health_of
from streamer.worker.changelog import STATE_VERSION, Marker


def a_marker(position: int, clock: PartitionClock, counters: ClickCounters) -> Marker:
    return Marker(STATE_VERSION, 1, 1, 0, position, 2, "00000000", clock, counters, [])


def test_partitions_add_up_and_the_slowest_watermark_counts() -> None:
    health = health_of(
        {
            0: a_marker(
                90, PartitionClock(10_000, 7_000, 9_000), ClickCounters(received=90, closed=60, late=5)
            ),
            1: a_marker(40, PartitionClock(20_000, 5_000, 9_000), ClickCounters(received=40, closed=40)),
            2: a_marker(0, PartitionClock(), ClickCounters()),
            3: None,
        },
        {0: 100, 1: 40, 2: 0, 3: 0},
    )
    assert health.lag == 10
    assert (health.watermark, health.behind_ms) == (5_000, 15_000)
    assert (health.counters.open(), health.counters.late) == (25, 5)


def test_where_no_worker_has_ever_been_nothing_is_known() -> None:
    health = health_of({0: None}, {0: 10})
    assert (health.lag, health.watermark, health.behind_ms) == (0, None, None)
    assert health.counters == ClickCounters()
