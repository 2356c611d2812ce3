"""How far the live clock may go: only where a fetch proved idleness."""

from __future__ import annotations

from streamer.worker.idleness import idle_until
from streamer.worker.transport import EmptyFetch

BROKER = (1_000_000, 50.0)
MARGIN_MS = 5000


def test_the_clock_is_the_last_broker_time_plus_monotonic_time_less_the_margin() -> None:
    assert idle_until(EmptyFetch(10, 10, 60.0), 10, BROKER, MARGIN_MS) == 1_000_000 + 10_000 - 5000


def test_nothing_is_known_without_an_empty_fetch() -> None:
    assert idle_until(None, 10, BROKER, MARGIN_MS) is None


def test_nothing_is_known_before_the_broker_has_shown_its_time() -> None:
    assert idle_until(EmptyFetch(10, 10, 60.0), 10, (0, 50.0), MARGIN_MS) is None


def test_fetched_records_that_wait_to_be_processed_are_no_idleness() -> None:
    assert idle_until(EmptyFetch(10, 10, 60.0), 9, BROKER, MARGIN_MS) is None


def test_offsets_without_records_at_the_end_are_idleness() -> None:
    assert idle_until(EmptyFetch(12, 10, 60.0), 10, BROKER, MARGIN_MS) is not None
